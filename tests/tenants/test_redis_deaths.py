"""Deaths of replicas on a real Redis: all gateways hear of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from serving.engines.deaths import Deaths, SharedDeaths
from serving.tenants.redis_deaths import MOST, RECENT, RedisDeathCounts
from tests.tenants.quota_bench import empty, until
from tests.tenants.redis_server import RedisServer


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[RedisServer]:
    empty(redis_server)
    yield redis_server
    redis_server.resume()


@asynccontextmanager
async def gateways(url: str, *, seconds: float = 300) -> AsyncGenerator[tuple[Deaths, Deaths], None]:
    both = [SharedDeaths(RedisDeathCounts(url, None, seconds=seconds), every=0.05) for _ in range(2)]
    async with AsyncExitStack() as stack:
        for one in both:
            await one.start()
            stack.push_async_callback(one.close)
        yield both[0], both[1]


async def test_every_gateway_hears_of_it(server: RedisServer) -> None:
    async with gateways(server.url) as (first, second):
        first.happened("a", "one")
        await until(lambda: second.of("a") == 1)
        assert second.happened("a", "other") == 2
        await until(lambda: first.of("a") == 2)
    async with gateways(server.url) as (third, _):  # one that starts later
        await until(lambda: third.of("a") == 2)


async def test_what_all_have_seen_expires(server: RedisServer) -> None:
    async with gateways(server.url, seconds=0.3) as (first, second):
        first.happened("a", "one")
        await until(lambda: second.of("a") == 1)
        await until(lambda: second.of("a") == 0)


async def test_two_gateways_that_had_the_same_at_one_replica_tell_of_one_death(server: RedisServer) -> None:
    async with gateways(server.url) as (first, second):
        for gateway in (first, second, first, second):
            gateway.happened("a", "one")
        await asyncio.sleep(0.5)
        assert (first.of("a"), second.of("a")) == (1, 1)


async def test_without_redis_each_gateway_knows_its_own_and_tells_it_later(server: RedisServer) -> None:
    async with gateways(server.url) as (first, second):
        await until(lambda: True)
        server.pause()
        assert [first.happened("a", "one"), first.happened("a", "other"), second.of("a")] == [1, 2, 0]
        await asyncio.sleep(0.5)
        server.resume()
        await until(lambda: second.of("a") >= 2)


async def test_what_is_shared_is_bounded(server: RedisServer) -> None:
    counts = RedisDeathCounts(server.url, None, seconds=60, timeout=10)
    await counts.add([(f"d{number}", "one") for number in range(MOST + 10)])
    known = await counts.recent()
    await counts.close()
    assert len(known) == MOST and f"d{MOST}" in known and RECENT.startswith("{clinserve}")
