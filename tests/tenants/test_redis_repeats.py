"""Drills on a real Redis: gateways and Redis die, hang and come back. No request runs twice, none waits for ever."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from serving.tenants.redis_repeats import PREFIX, RedisRepeats
from serving.tenants.repeats import Hold, RepeatsUnavailable, StillRunning
from tests.tenants.quota_bench import empty, until
from tests.tenants.redis_server import RedisServer

HOLDS = """
import asyncio, sys
from serving.tenants.redis_repeats import RedisRepeats
from serving.tenants.repeats import Hold

async def main():
    repeats = RedisRepeats(sys.argv[1], None, seconds=60, timeout=5, hold=0.2)
    await repeats.start()
    assert await repeats.begin(Hold("name", "body", "first")) is None
    print("held", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
FIRST, SECOND = Hold("name", "body", "first"), Hold("name", "body", "second")


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    return empty(redis_server)


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[RedisServer]:
    """One to take away. (redis_server: skips where there is none to start.)"""
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.resume()
        server.stop()


@asynccontextmanager
async def gateway(url: str, **options: Any) -> AsyncIterator[RedisRepeats]:
    repeats = RedisRepeats(url, None, **{"seconds": 60.0, "timeout": 5.0, "retry": 0.05} | options)
    await repeats.start()
    try:
        yield repeats
    finally:
        await repeats.close()


async def test_two_gateways_know_of_each_others_requests_and_answers(url: str) -> None:
    async with gateway(url) as one, gateway(url) as other:
        assert await one.begin(FIRST) is None
        with pytest.raises(StillRunning):
            await other.begin(SECOND)
        await one.keep(FIRST, b"answer")
        assert await other.begin(SECOND) == b"answer"


async def test_a_hold_lasts_as_long_as_its_gateway_lives_and_ends_soon_after(url: str) -> None:
    async with gateway(url) as other:
        with subprocess.Popen([sys.executable, "-c", HOLDS, url], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline() == b"held\n"
            await asyncio.sleep(0.6)
            with pytest.raises(StillRunning):
                await other.begin(SECOND)
            process.kill()
        await until_first(other, SECOND, within=1.0)


async def test_whoever_has_lost_a_name_keeps_no_answer_under_it(url: str, redis_server: RedisServer) -> None:
    async with gateway(url) as one, gateway(url) as other:
        assert await one.begin(FIRST) is None
        empty(redis_server)
        assert await other.begin(SECOND) is None
        await one.keep(FIRST, b"too late")
        with pytest.raises(StillRunning):
            await one.begin(FIRST)


async def until_first(repeats: RedisRepeats, hold: Hold, within: float) -> None:
    async with asyncio.timeout(within):
        while True:
            try:
                assert await repeats.begin(hold) is None
                return
            except StillRunning:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_without_redis_nobody_is_the_first_and_each_is_counted(server: RedisServer, how: str) -> None:
    away = 0

    def count() -> None:
        nonlocal away
        away += 1

    async with gateway(server.url, timeout=0.1, on_away=count) as repeats:
        assert await repeats.begin(FIRST) is None
        getattr(server, how)()
        for _ in range(3):
            with pytest.raises(RepeatsUnavailable) as error:
                await repeats.begin(SECOND)
            assert error.value.retry_after is not None and error.value.free
        await repeats.keep(FIRST, b"lost")  # it was answered all the same
        assert away == 4
        server.resume() if how == "pause" else server.start()
        async with asyncio.timeout(5):
            while True:
                try:
                    assert await repeats.begin(Hold("other", "body", "third")) is None
                    break
                except RepeatsUnavailable:
                    await asyncio.sleep(0.02)


async def test_a_hold_of_which_no_answer_came_is_given_back(server: RedisServer) -> None:
    async with gateway(server.url, timeout=0.1) as repeats:
        assert await repeats.begin(Hold("warm", "body", "up")) is None
        server.pause()
        with pytest.raises(RepeatsUnavailable):
            await repeats.begin(FIRST)  # it will still arrive
        server.resume()
        await until(lambda: not keys(server, "name"))


async def test_whoever_is_cancelled_while_redis_is_asked_holds_nothing(server: RedisServer) -> None:
    async with gateway(server.url) as repeats:
        assert await repeats.begin(Hold("warm", "body", "up")) is None
        server.pause()
        asking = asyncio.create_task(repeats.begin(FIRST))
        await asyncio.sleep(0.05)
        asking.cancel()
        server.resume()
        await asyncio.gather(asking, return_exceptions=True)
        await until(lambda: not keys(server, "name"))


async def test_nothing_stays_in_redis_without_an_end(url: str, redis_server: RedisServer) -> None:
    async with gateway(url) as repeats:
        assert await repeats.begin(FIRST) is None
        assert await repeats.begin(Hold("other", "body", "first")) is None
        await repeats.keep(FIRST, b"answer")
        assert all(0 < seconds <= 60 for seconds in keys(redis_server).values())
        assert len(keys(redis_server)) == 2


def keys(server: RedisServer, name: str = "*") -> dict[str, int]:
    """Names that Redis knows, with the seconds that they have left."""
    with server.client() as client:
        return {key: client.ttl(key) for key in client.scan_iter(PREFIX + name)}  # type: ignore[misc]
