"""A request whose deployment has no replica: held by the HTTP engine, and what it is told when none comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from serving.engines.endpoints import NoReplica
from serving.engines.engine import BATCH, EngineRequest
from serving.engines.http import HttpEngine
from serving.engines.waiting import HoldLimits, WaitingRoom
from serving.errors import EngineStarting, EngineTimeout, EngineUnavailable
from tests.engines.openai_stub import OpenAIStub, nobody, refusing, stub, writing
from tests.local import DONE, ROLE, chat

REQUEST = EngineRequest("chat", chat(stream=True), stream=True, request_id="req_1", cache_salt="salt")


class Sleeping:
    """Endpoints of a deployment with these replicas once it is woken, which takes a while."""

    sleeps = True

    def __init__(self, *urls: str, takes: float = 0.05) -> None:
        self.urls, self.awake, self.avoided = urls, False, [*[]]
        self._takes = takes

    async def pick(self, avoid: Collection[str] = ()) -> str:
        if not self.awake:
            raise NoReplica(retry_after=1.0)
        self.avoided.append(set(avoid))
        return next((url for url in self.urls if url not in avoid), self.urls[0])

    async def wake(self) -> None:
        await asyncio.sleep(self._takes)
        self.awake = True


@asynccontextmanager
async def engine_on(endpoints: Sleeping, **options: Any) -> AsyncGenerator[HttpEngine, None]:
    engine = HttpEngine(endpoints, **{"model": "m", "ours": True, **options})
    yield engine
    await engine.close()


@asynccontextmanager
async def replica() -> AsyncGenerator[OpenAIStub, None]:
    async with stub(writing(ROLE + DONE)) as running:
        yield running


async def read(engine: HttpEngine, request: EngineRequest = REQUEST) -> bytes:
    return b"".join([item async for item in engine.answer(request)])


async def test_it_streams_as_ever_once_a_replica_runs() -> None:
    async with replica() as running, engine_on(Sleeping(running.url)) as engine:
        assert await read(engine) == ROLE + DONE
    assert len(running.bodies) == 1


async def test_the_start_does_not_count_towards_the_time_for_a_first_token() -> None:
    async with replica() as running, engine_on(Sleeping(running.url, takes=0.3), first_token_timeout=0.2) as engine:
        assert await read(engine) == ROLE + DONE
    async with stub(writing(then="hang")) as silent, engine_on(Sleeping(silent.url), first_token_timeout=0.2) as engine:
        with pytest.raises(EngineTimeout):
            await read(engine)


async def test_none_in_time_is_503_and_how_long_it_takes() -> None:
    room = WaitingRoom(HoldLimits(seconds=0.05))
    async with engine_on(Sleeping(takes=5.0), room=room) as engine:
        with pytest.raises(EngineStarting) as caught:
            await read(engine)
        assert caught.value.status == 503 and 50 < (caught.value.retry_after or 0) <= 60
        assert await engine.reckon("req_1") is None, "it has cost nothing"


async def test_a_line_of_a_batch_waits_elsewhere_while_others_wake_it() -> None:
    async with replica() as running, engine_on(Sleeping(running.url, takes=0.2)) as engine:
        person = asyncio.create_task(read(engine))
        await asyncio.sleep(0.05)
        with pytest.raises(EngineStarting):
            await read(engine, replace(REQUEST, priority=BATCH))
        assert await person == ROLE + DONE
        assert await read(engine, replace(REQUEST, priority=BATCH)) == ROLE + DONE


async def test_who_sleeps_is_ready_and_who_has_lost_its_last_replica_is_not() -> None:
    endpoints = Sleeping()
    async with engine_on(endpoints) as engine:
        assert await engine.ready()
        endpoints.sleeps = False
        assert not await engine.ready()


async def test_a_dead_replica_is_passed_over_while_there_is_another() -> None:
    retries: list[int] = []
    async with replica() as running:
        endpoints = Sleeping(nobody(), running.url)
        endpoints.awake = True
        async with engine_on(endpoints, on_retry=lambda: retries.append(1)) as engine:
            assert await read(engine) == ROLE + DONE
    assert endpoints.avoided == [set(), {endpoints.urls[0]}] and retries == [1]


async def test_the_last_replica_dies_and_the_request_waits_for_the_next() -> None:
    async with replica() as running:
        endpoints = Sleeping(nobody())
        endpoints.awake = True
        async with engine_on(endpoints) as engine:
            asked = asyncio.create_task(read(engine))
            await asyncio.sleep(0.2)
            endpoints.awake, endpoints.urls = False, (running.url,)
            assert await asked == ROLE + DONE


async def test_a_replica_that_says_503_again_and_again_is_not_asked_for_long() -> None:
    async with stub(refusing(503, None)) as running:
        endpoints = Sleeping(running.url)
        endpoints.awake = True
        async with engine_on(endpoints) as engine, asyncio.timeout(5):
            with pytest.raises(EngineUnavailable):
                await read(engine)
    assert len(running.bodies) == 3


async def test_a_held_request_ends_when_the_gateway_is_cut() -> None:
    async with engine_on(Sleeping(takes=5.0)) as engine:
        held = asyncio.create_task(read(engine))
        await asyncio.sleep(0.05)
        engine.cut()
        with pytest.raises(EngineTimeout):
            async with asyncio.timeout(2):
                await held
