"""`clinserve status`, against servers on real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from typer.testing import CliRunner, Result

from serving.cli import cli
from serving.commands.kept import kept_key
from serving.commands.status import state_of
from serving.gateway.fleet import Replicas, Start
from tests.conftest import OpenSite
from tests.local import Site, chat, listening
from tests.scaling.fleets import TOLD, ToldFleet

AWAY = {"name": "letters", "engine": {"kind": "http", "url": "http://127.0.0.1:9/v1"}}
NOTES = {"name": "notes", "engine": {"kind": "echo"}, "model": {"notice": "Not for clinical use."}}


class Server(NamedTuple):
    url: str
    site: Site


@pytest.fixture
def server(site: OpenSite) -> Iterator[Server]:
    open_site = site(deployments=[NOTES, AWAY])
    with listening(open_site.app) as url:
        yield Server(url, open_site)


@pytest.fixture(autouse=True)
def no_kept_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINSERVE_SERVER__STATE_DIR", "/nowhere")


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["status", *words])


def test_deployments_with_their_states_and_what_is_not_ready(server: Server) -> None:
    result = run("--url", server.url, "--key", server.site.key)
    head, problem, columns, *rows = result.stdout.splitlines()
    assert result.exit_code == 2  # a script waits
    assert f"at {server.url}: not ready, up since 20" in head and problem == "Not ready yet: letters."
    assert columns.split() == ["deployment", "state", "replicas", "in", "flight", "weights"]
    assert [row.split()[:4] for row in rows] == [["notes", "ready", "-", "0"], ["letters", "away", "-", "0"]]


def test_scripts_get_json(site: OpenSite) -> None:
    open_site = site(deployments=[NOTES])
    with listening(open_site.app) as url:
        httpx.post(f"{url}/v1/chat/completions", headers={"api-key": open_site.key}, json=chat(model="notes"))
        result = run("--url", url, "--key", open_site.key, "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["ready"], told["problem"], told["url"]) == (0, True, None, url)
    (notes,) = told["deployments"]
    assert (notes["name"], notes["ready"], notes["in_flight"]) == ("notes", True, 0)
    assert notes["notice"] == "Not for clinical use."


def test_a_fleet_that_scales_says_how_far_and_why(site: OpenSite) -> None:
    open_site = site(deployments=[NOTES], fleet=ToldFleet({"notes": TOLD}))
    with listening(open_site.app) as url:
        *_, now, change = run("--url", url, "--key", open_site.key).stdout.splitlines()
    assert now == "notes scales: 2 of 1 to 2, misses its goal; bounds: 9 in flight; 3 wanted of 1 to 2"
    assert change.endswith("  1 to 2  queue: 9 in flight (5 waiting)")


def test_without_a_key_there_is_what_is_public(server: Server) -> None:
    httpx.post(f"{server.url}/v1/chat/completions", headers={"api-key": server.site.key}, json=chat(model="notes"))
    result = run("--url", server.url)
    assert result.exit_code == 2 and "Not ready yet." in result.stdout
    assert "letters" not in result.stdout and "notes" not in result.stdout
    assert "With a key (--key, CLINSERVE_API_KEY) there is more" in result.stdout


def test_the_key_of_a_server_on_this_machine_is_found(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    state = tmp_path_factory.mktemp("kept")
    monkeypatch.setenv("CLINSERVE_SERVER__STATE_DIR", str(state))
    (state / "demo.key").write_text(server.site.key + "\n")
    assert "notes" in run("--url", server.url).stdout


@pytest.mark.parametrize(
    "url", ["https://models.example.org", "http://10.0.0.1:8000", "http://127.0.0.1.example.org", "x"]
)
def test_no_other_machine_is_given_it(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLINSERVE_SERVER__STATE_DIR", str(tmp_path))
    (tmp_path / "admin.key").write_text("csk_key\n")
    assert kept_key("http://localhost:9000", "admin.key") == "csk_key"
    assert kept_key(url, "admin.key") is None


def one_line(result: Result) -> str:
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1), result.output
    return result.stderr


def test_no_server_a_wrong_key_and_another_server_are_one_line(server: Server) -> None:
    assert "no server answers at http://127.0.0.1:9" in one_line(run("--url", "http://127.0.0.1:9"))
    assert "no server answers at nonsense" in one_line(run("--url", "nonsense"))
    assert "Access denied" in one_line(run("--url", server.url, "--key", "wrong"))

    async def hello(request: object) -> PlainTextResponse:
        return PlainTextResponse("<html>Hello</html>")

    with listening(Starlette(routes=[Route("/{path:path}", hello)])) as url:
        assert "and not as clinserve does" in one_line(run("--url", url))


@pytest.mark.parametrize(
    ("running", "starting", "ready", "state"),
    [(0, 0, True, "asleep"), (0, 1, True, "starting"), (0, 0, False, "away"), (1, 0, True, "ready")],
)
def test_one_without_a_replica_sleeps_starts_or_is_away(running: int, starting: int, ready: bool, state: str) -> None:
    counts = {"running": running, "starting": starting, "stopping": 0}
    assert state_of({"name": "notes", "ready": ready, "replicas": counts}) == state


def test_what_the_last_start_took_is_told_phase_by_phase(site: OpenSite) -> None:
    start = Start(at=1_790_000_000.0, phases={"node": 3.21, "weights": 12.0, "engine": 45.4, "warm_up": 7.5})
    replicas = {"notes": Replicas(running=1, starting=0, stopping=0, last_start=start)}
    open_site = site(deployments=[NOTES], fleet=ToldFleet({}, replicas))
    with listening(open_site.app) as url:
        result = run("--url", url, "--key", open_site.key)
    *_, last = result.stdout.splitlines()
    assert last.startswith("Last start of notes, 2026-09-21")
    assert last.endswith("68.1 s: node 3.2, weights 12.0, engine 45.4, warm-up 7.5")
