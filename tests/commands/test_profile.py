"""`clinserve profile`, against an echo engine on a real socket that has a capacity."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from serving.cli import cli
from serving.commands.saturation import Level, concurrency
from serving.gateway.fleet import Replicas, Start
from tests.conftest import OpenSite
from tests.local import Site, listening
from tests.scaling.fleets import ToldFleet

# 64 tokens take 0.13 s: 4 at a time are 1900 tokens/s, and who waits for a slot misses the goal.
NOTES = {
    "name": "notes",
    "engine": {"kind": "echo", "slots": 4, "inter_token": "2ms", "prefill_rate": 20_000},
    "slo": {"ttft_p95": "80ms"},
}
ONE = Replicas(running=1, starting=0, stopping=0, last_start=Start(at=0.0, phases={"node": 2.0, "engine": 10.5}))


def run(url: str, site: Site, folder: Path, *words: str) -> Result:
    config = folder / "config.yaml"
    tree = {"server": {"runtime": "process", "state_dir": str(folder)}, "deployments": [NOTES]}
    config.write_text(yaml.safe_dump(tree))
    asked = ["--config", str(config), "profile", "--url", url, "--key", site.key, "--seconds", "1", *words]
    return CliRunner().invoke(cli, asked)


def test_it_finds_what_the_engine_is_set_to_and_writes_it_where_scaling_looks(site: OpenSite, tmp_path: Path) -> None:
    open_site = site(deployments=[NOTES], fleet=ToldFleet({}, {"notes": ONE}))
    with listening(open_site.app) as url:
        result = run(url, open_site, tmp_path, "notes", "--most", "8")
    assert result.exit_code == 0, result.output
    file = tmp_path / "profiles" / "notes.json"
    found = json.loads(file.read_text())
    assert found["deployment"] == "notes" and found["goals"] == "TTFT p95 0.08 s, TPOT p95 0.1 s"
    assert 2 <= found["concurrency"] <= 6
    assert 500 < found["decode_rate"] < 2000
    assert 8000 < found["prefill_rate"] <= 21_000
    assert found["start_seconds"] == 12.5, "what the last start took"
    assert "streams within the goals" in result.stdout and str(file) in result.stdout


def test_what_cannot_be_measured_is_one_line(site: OpenSite, tmp_path: Path) -> None:
    open_site = site(deployments=[NOTES])
    with listening(open_site.app) as url:
        unknown = run(url, open_site, tmp_path, "letters")
        closed = run(url, open_site, tmp_path, "notes", "--key", "wrong")
    away = run("http://127.0.0.1:9", open_site, tmp_path, "notes")
    assert [one.exit_code for one in (unknown, closed, away)] == [1, 1, 1]
    assert "the configuration has no deployment 'letters'; it has notes" in unknown.stderr
    assert "Access denied" in closed.stderr and "no server answers" in away.stderr


@pytest.mark.parametrize(("times", "expected"), [([0.1, 0.2, 3.0], 2), ([0.1, 0.2, 0.3], 4), ([3.0, 3.0, 3.0], 1)])
def test_the_concurrency_is_the_most_streams_that_met_the_goals(times: list[float], expected: int) -> None:
    measured = [Level(2**n, 10, 100.0, seconds, 0.01) for n, seconds in enumerate(times)]
    assert concurrency(measured, ttft=2.0, tpot=0.1) == expected
