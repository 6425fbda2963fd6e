"""The whole chain against the product's echo engine: Locust, workers, merging. Accounting only, no milliseconds.

What the times are worth is `python -m loadtests.trust`, on a quiet machine.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtests import echo, runs, trust
from loadtests.echo import Echo
from loadtests.plan import KEYS
from loadtests.runs import Fleet

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server() -> Iterator[Echo]:
    with echo.running(0.05, 0.005, free_port()) as found:
        yield found


def command(*words: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != KEYS}
    return subprocess.run(
        [sys.executable, "-m", "loadtests", *words],
        cwd=runs.ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        env=environment,
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_every_request_of_the_schedule_is_accounted_for_whatever_the_number_of_workers(
    server: Echo, processes: int
) -> None:
    before = server.lines()
    measured = trust.measure(server.url, server.key, trust.known(15, 3, warm_up=1), Fleet(processes, port=free_port()))
    tally = measured.tallies.sum()
    assert len(measured.workers) == processes and measured.complete
    assert tally.offered > 20 and tally.kinds["ok"] == tally.offered
    assert tally.frames_per_token == pytest.approx(1.0)
    assert any(not row.measured for row in measured.rows)
    answered = [row for row in measured.rows if row.kind == "ok"]
    logged, cut = server.requests(before), len(measured.rows) - len(answered)  # when the window had ended
    assert len(answered) <= len(logged) <= len(answered) + cut
    assert sum(line["completion_tokens"] for line in logged) >= sum(row.answer_tokens for row in answered)


def test_the_command_opens_with_its_verdict_and_leaves_a_report(server: Echo, tmp_path: Path) -> None:
    url, key = server.url, server.key
    (tmp_path / "key").write_text(key)
    times = ("--measure", "2s", "--warm-up", "0.5s", "--rate", "20", "--ttft", "5s", "--port", str(free_port()))
    done = command("chat", "--url", url, "--key-file", str(tmp_path / "key"), "--out", str(tmp_path), *times)
    assert done.returncode in (0, 2, 3), done.stdout + done.stderr
    assert done.stdout.startswith({0: "MET  chat", 2: "MISSED  chat", 3: "INVALID  chat"}[done.returncode])
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    names = {path.name for path in folder.iterdir()}
    assert names >= {"report.html", "results.json", "summary.csv", "requests.csv", "junit.xml", "plan.json"}
    assert json.loads((folder / "results.json").read_text())["status"] == done.returncode
    assert not any(key in path.read_text() for path in folder.iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("chatt",), "Did you mean chat"),
        (("chat", "--url", "http://127.0.0.1:9"), "nothing answers"),
        (("noisy", "--url", "http://127.0.0.1:9"), "--tenant-key noisy=FILE"),
        (("chat", "--key-file", "/nowhere"), "cannot read the key"),
        (("steps", "--rate", "3", "--url", "http://127.0.0.1:9"), "--scale"),
    ],
)
def test_what_cannot_be_run_is_a_harness_error_in_words(words: tuple[str, ...], told: str) -> None:
    done = command(*words)
    assert done.returncode == 4 and told in done.stdout and "Traceback" not in done.stderr


def test_a_wrong_key_is_said_so(server: Echo, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("csk_wrong")
    done = command("chat", "--url", server.url, "--key-file", str(tmp_path / "key"))
    assert done.returncode == 4 and "does not know this key" in done.stdout


def test_the_list_shows_every_scenario() -> None:
    assert "key-flood" in command("list").stdout
