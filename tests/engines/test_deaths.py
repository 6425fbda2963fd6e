"""A request that was in flight at two replicas when each died is given to no third."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from serving.engines.deaths import MemoryDeaths, digest_of
from serving.engines.engine import EngineRequest
from serving.engines.http import HttpEngine
from serving.errors import EngineFailed, FatalRequest, ServingError
from tests.engines.openai_stub import Moving, OpenAIStub, Script, dropping, nobody, refusing, stub, writing
from tests.local import DONE, ROLE, WHOLE, chat, word

GOOD = writing(ROLE + DONE)
DYING = {
    "before a byte": dropping(),
    "after the head": writing(then="drop"),
}


def a_chat(text: str = "hello", *, tenant: str = "salt", stream: bool = True) -> EngineRequest:
    return EngineRequest("chat", chat(text, stream=stream), stream=stream, request_id="req_1", cache_salt=tenant)


@asynccontextmanager
async def engine_on(*scripts: Script, **options: Any) -> AsyncGenerator[tuple[HttpEngine, list[OpenAIStub]], None]:
    async with AsyncExitStack() as stack:
        running = [await stack.enter_async_context(stub(script)) for script in scripts]
        engine = HttpEngine(Moving(*[one.url for one in running]), **{"model": "m", "ours": True, **options})
        stack.push_async_callback(engine.close)
        yield engine, running


async def outcome(engine: HttpEngine, request: EngineRequest) -> ServingError | None:
    try:
        async for _ in engine.answer(request):
            pass
    except ServingError as error:
        return error
    return None


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("dies", DYING.values(), ids=DYING)
async def test_no_third_replica_is_risked(dies: Script, stream: bool) -> None:
    told: list[int] = []
    async with engine_on(dies, dies, GOOD, on_fatal=lambda: told.append(1)) as (engine, running):
        error = await outcome(engine, a_chat(stream=stream))
        assert isinstance(error, FatalRequest) and (error.status, error.retry_after) == (502, None)
        assert isinstance(await outcome(engine, a_chat(stream=stream)), FatalRequest)
    assert [len(one.bodies) for one in running] == [1, 1, 0] and len(told) == 2


async def test_one_death_is_retried_and_others_are_served_as_ever() -> None:
    good = writing(WHOLE)
    async with engine_on(dropping(), refusing(503, None), good, good, good) as (engine, _):
        assert await outcome(engine, a_chat(stream=False)) is None
        assert await outcome(engine, a_chat("another", stream=False)) is None
        assert await outcome(engine, a_chat(stream=False, tenant="another")) is None


async def test_a_replica_that_dies_in_the_middle_of_an_answer_counts() -> None:
    cut = writing(ROLE, word("a"), gap=0.01, then="drop")
    async with engine_on(cut, cut, GOOD) as (engine, running):
        assert isinstance(await outcome(engine, a_chat()), EngineFailed)
        assert isinstance(await outcome(engine, a_chat()), EngineFailed)
        assert isinstance(await outcome(engine, a_chat()), FatalRequest)
    assert running[2].bodies == []


async def test_what_was_not_reached_or_says_that_it_is_full_has_not_died() -> None:
    deaths = MemoryDeaths()
    async with engine_on(*[refusing(503, None)] * 3, deaths=deaths) as (engine, _):
        assert not isinstance(await outcome(engine, a_chat()), FatalRequest)
    engine = HttpEngine(Moving(nobody()), model="m", ours=True, deaths=deaths)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.3):
            await outcome(engine, a_chat())
    await engine.close()
    assert deaths.are_none


async def test_an_endpoint_of_others_has_one_address_for_all_its_replicas() -> None:
    deaths = MemoryDeaths()
    async with engine_on(dropping(), dropping(), dropping(), ours=False, deaths=deaths) as (engine, _):
        assert not isinstance(await outcome(engine, a_chat()), FatalRequest)
    assert deaths.are_none


async def test_a_replica_that_dies_with_many_alike_has_died_once() -> None:
    """Prompts are alike more often than one thinks: of probes, of load tests, of forms."""
    now = 0.0
    deaths = MemoryDeaths(clock=lambda: now)
    assert [deaths.happened("a", "one") for _ in range(20)] == [1] * 20
    now = 60.0
    assert deaths.happened("a", "one") == 2, "a new replica at the old one's address"


async def test_it_is_refused_for_some_minutes_and_the_memory_is_bounded() -> None:
    now = 0.0
    deaths = MemoryDeaths(seconds=300, most=2, clock=lambda: now)
    assert [deaths.happened("a", "one"), deaths.happened("a", "other")] == [1, 2]
    now = 299.0
    assert deaths.of("a") == 2
    now = 301.0
    assert deaths.of("a") == 0 and deaths.happened("a", "one") == 1
    for digest in "bcd":
        deaths.happened(digest, "one")
    assert [deaths.of(digest) for digest in "abcd"] == [0, 0, 1, 1]


def test_the_digest_is_the_tenants_and_of_what_the_engine_gets() -> None:
    same = EngineRequest("chat", chat("hello", stream=True), stream=True, request_id="req_2", cache_salt="salt")
    assert digest_of(a_chat(), "m") == digest_of(same, "m")
    others = [digest_of(a_chat("hi"), "m"), digest_of(a_chat(), "n"), digest_of(a_chat(tenant="x" * 100), "m")]
    assert len({digest_of(a_chat(), "m"), *others}) == 4
