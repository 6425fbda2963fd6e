"""A fleet of echo replicas on real Ray Serve: it sleeps and is woken, it is scaled in and upgraded, and it is hurt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

import httpx
import pytest

from loadtests.fleet.books import books_of
from loadtests.fleet.server import MODEL, FleetServer
from loadtests.fleet.streams import Ended, streams

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetServer]:
    with FleetServer(tmp_path_factory.mktemp("fleet"), replicas=3, inter_token=0.25) as running:
        yield running


def eventually(check: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return True
        time.sleep(0.2)
    return False


def exact(server: FleetServer, ended: Sequence[Ended]) -> bool:
    """Every one of them was charged what it got, once; the ledger is written a moment later."""
    ids = [one.request_id for one in ended]
    return eventually(lambda: books_of(ended, server.charged(ids)).exact, 10)


def outcomes(ended: Sequence[Ended]) -> set[str]:
    return {one.outcome for one in ended}


async def while_streaming(server: FleetServer, count: int, words: int, act: Callable[[], object]) -> Sequence[Ended]:
    """Streams of so many words, some already on their way, while something happens in another thread."""
    async with streams(server.url, server.key, MODEL) as running:
        over = asyncio.Event()
        load = asyncio.create_task(running.always(count, words, ramp=1.0, until=over))
        await asyncio.sleep(2.0)
        try:
            await asyncio.to_thread(act)
        finally:
            over.set()
        await load
        return await running.all_ended()


async def test_no_stream_is_cut_when_a_replica_goes_and_when_all_of_it_is_upgraded(server: FleetServer) -> None:
    def change() -> None:
        server.configure(replicas=2)
        server.reload(MODEL, "gateway")

    gateway, engines = server.processes("gateway"), server.processes("engine")
    ended = await while_streaming(server, 60, 32, change)
    assert outcomes(ended) == {"ok"} and len(ended) >= 60
    assert exact(server, ended)
    assert len(server.processes("engine")) == 2
    assert not set(gateway) & set(server.processes("gateway")) and not set(engines) & set(server.processes("engine"))


async def test_a_replica_is_killed_and_only_what_it_was_answering_breaks(server: FleetServer) -> None:
    def kill() -> None:
        server.newest("engine").kill()
        assert eventually(lambda: server.replicas() == {"running": 2, "starting": 0, "stopping": 0}, 60)

    ended = await while_streaming(server, 20, 8, kill)
    broken = [one for one in ended if one.outcome != "ok"]
    assert 0 < len(broken) <= 20 and outcomes(broken) == {"error event"}
    assert exact(server, ended), "and pays for what it got, once"


async def test_the_controller_is_killed_and_nobody_notices(server: FleetServer) -> None:
    before = server.newest("controller")

    def kill() -> None:
        before.kill()
        assert eventually(lambda: server.processes("controller") not in ([], [before]), 60)

    ended = await while_streaming(server, 20, 8, kill)
    assert outcomes(ended) == {"ok"} and exact(server, ended)


async def test_what_still_runs_when_a_drain_is_over_gets_an_error_event_and_pays_for_what_it_got(
    server: FleetServer,
) -> None:
    server.configure(server={"drain_timeout": "2s"})
    server.reload()
    async with streams(server.url, server.key, MODEL) as running:
        for _ in range(10):
            running.begin(200)
        await asyncio.sleep(3)
        await asyncio.to_thread(server.reload, "gateway")
        ended = await running.all_ended()
    assert outcomes(ended) == {"error event"} and all(one.seen > 3 for one in ended)
    assert exact(server, ended)


async def test_a_sleeping_deployment_holds_a_request_until_it_is_awake(server: FleetServer) -> None:
    server.configure(
        server={"drain_timeout": "10m"},
        replicas=None,
        scaling={"min": 0, "max": 1, "scale_to_zero_after": "2s", "scale_down_after": "1s"},
        engine={"kind": "echo", "place": "replicas", "inter_token": 0.25, "start_time": "4s"},
    )
    server.reload()
    assert eventually(lambda: server.replicas() == {"running": 0, "starting": 0, "stopping": 0}, 60)
    assert httpx.get(f"{server.url}/readyz", timeout=30).status_code == 200, "it would answer"

    async with streams(server.url, server.key, MODEL) as running:
        for _ in range(8):
            running.begin(4)
        await asyncio.sleep(1.5)
        assert server.metric("clinserve_requests_held") == 8
        ended = await running.all_ended()
    assert outcomes(ended) == {"ok"} and exact(server, ended)
    assert server.metric("clinserve_requests_held") == 0
    status = httpx.get(f"{server.url}/admin/v1/status", headers={"authorization": f"Bearer {server.key}"}, timeout=10)
    start = status.json()["deployments"][0]["last_start"]
    assert start["phases"].keys() == {"node", "engine"} and 4 < start["seconds"] < 60


async def test_who_cannot_be_held_so_long_is_told_the_truth_about_when_to_come_back(server: FleetServer) -> None:
    server.configure(
        hold={"requests": 2, "seconds": 0.3},
        scaling={"min": 0, "max": 1, "scale_to_zero_after": "20s", "scale_down_after": "1s"},
    )
    server.reload()
    assert eventually(lambda: server.replicas().get("running") == 0, 60)
    async with streams(server.url, server.key, MODEL) as running:
        for _ in range(3):
            running.begin(4)
        refused = list(await running.all_ended())
        assert [one.status for one in refused] == [503] * 3
        assert all(1 <= (one.retry_after or 0) < 60 for one in refused)
        for _ in range(4):  # a start on a busy machine may take longer than the last one; nobody waits meanwhile
            await asyncio.sleep(running.ended[-1].retry_after or 0)
            running.begin(4)
            if (await running.all_ended())[-1].outcome == "ok":
                break
    assert running.ended[-1].outcome == "ok"
