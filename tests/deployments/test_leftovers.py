"""What a killed server has left is found and ended by the next one, and nothing else is. With real Ray: tests/e2e."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving.deployments.leftovers import RUN, ServerRuns

SERVER = """
import os, subprocess, sys, time
from pathlib import Path
from serving.deployments.leftovers import ServerRuns
state, scratch = map(Path, sys.argv[1:])
ServerRuns(state).begin(scratch)
sleeper = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
with (scratch / "out").open("w") as out:
    subprocess.Popen(sleeper, start_new_session=True, stdout=out, stderr=out)
    titled = {name: value for name, value in os.environ.items() if name != "CLINSERVE_RUN"}
    subprocess.Popen(sleeper, start_new_session=True, stdout=out, stderr=out, env=titled)
while (scratch / "out").read_text().count("up") < 2:
    time.sleep(0.01)
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    (tmp_path / "scratch").mkdir()
    return tmp_path / "scratch"


def server(state: Path, scratch: Path) -> subprocess.Popen[str]:
    """One that has started two processes, of which one does not have the id in its environment."""
    process = subprocess.Popen([sys.executable, "-c", SERVER, state, scratch], stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "started\n"
    return process


def test_what_a_killed_server_left_is_ended_and_its_neighbours_are_not(tmp_path: Path, scratch: Path) -> None:
    runs, running = ServerRuns(tmp_path), server(tmp_path, scratch)
    reader = subprocess.Popen(["tail", "-f", scratch / "out"], stdout=subprocess.DEVNULL)
    other = subprocess.Popen(["sleep", "600"], env=os.environ | {RUN: "another"})
    try:
        assert runs.sweep() == [], "it runs"
        running.kill()
        running.wait()
        assert len(runs.sweep()) == 2 and runs.sweep() == [] and not scratch.exists()
        assert reader.poll() is None and other.poll() is None
    finally:
        for process in (running, reader, other):
            process.kill()
            process.wait()


def test_a_process_that_has_the_servers_number_by_chance_is_not_taken_for_it(tmp_path: Path, scratch: Path) -> None:
    runs = ServerRuns(tmp_path)
    run = runs.begin(scratch)
    del os.environ[RUN]
    assert runs.sweep() == []
    told = json.loads((tmp_path / "run" / "servers" / f"{run.id}.json").read_text())
    (tmp_path / "run" / "servers" / f"{run.id}.json").write_text(json.dumps(told | {"started": time.time() - 9e6}))
    assert runs.sweep() == [] and not list((tmp_path / "run" / "servers").iterdir()), "it is gone, and left nothing"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"id": "../../x"}'])
def test_a_record_that_cannot_be_read_stops_nobody(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "run" / "servers"
    folder.mkdir(parents=True)
    (folder / "x.json").write_text(text)
    assert ServerRuns(tmp_path).sweep() == []


def test_a_server_that_ends_in_order_takes_its_record_away(tmp_path: Path, scratch: Path) -> None:
    runs = ServerRuns(tmp_path)
    runs.end(runs.begin(scratch))
    del os.environ[RUN]
    assert not list((tmp_path / "run" / "servers").iterdir())
