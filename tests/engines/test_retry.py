"""Another replica is asked only before the first byte of an answer, a few times, within one budget of time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from serving.engines.engine import EngineRequest, Tally
from serving.engines.http import HttpEngine
from serving.errors import EngineFailed, EngineTimeout, EngineUnavailable, InvalidRequest, ServingError
from tests.engines.openai_stub import Moving, OpenAIStub, Script, dropping, error_body, nobody, refusing, stub, writing
from tests.local import DONE, ROLE, WHOLE, chat, word

ANSWER = {True: ROLE + DONE, False: WHOLE}


def a_chat(*, stream: bool = True) -> EngineRequest:
    return EngineRequest("chat", chat(stream=stream), stream=stream, request_id="req_1", cache_salt="salt")


@asynccontextmanager
async def engine_on(*scripts: Script, **options: Any) -> AsyncGenerator[tuple[HttpEngine, list[OpenAIStub]], None]:
    """An engine whose endpoints name a server for each script, one after the other."""
    async with AsyncExitStack() as stack:
        running = [await stack.enter_async_context(stub(script)) for script in scripts]
        engine = HttpEngine(Moving(*[one.url for one in running]), **{"model": "m", "ours": True, **options})
        stack.push_async_callback(engine.close)
        yield engine, running


async def read(engine: HttpEngine, request: EngineRequest) -> tuple[bytes, ServingError | None]:
    seen = b""
    try:
        async for item in engine.answer(request):
            seen += item
    except ServingError as error:
        return seen, error
    return seen, None


async def test_a_replica_that_is_gone_is_unavailable_after_asking_for_another_twice() -> None:
    endpoints = Moving(nobody())
    engine = HttpEngine(endpoints, model="m")
    _, error = await read(engine, a_chat())
    await engine.close()
    assert type(error) is EngineUnavailable and endpoints.asked == 3 and error.retry_after


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fails", [dropping(), writing(then="drop"), refusing(503, None)])
async def test_a_replica_that_did_not_begin_to_answer_is_replaced_by_the_next(fails: Script, stream: bool) -> None:
    async with engine_on(fails, refusing(503, None), writing(ANSWER[stream])) as (engine, running):
        assert await read(engine, a_chat(stream=stream)) == (ANSWER[stream], None)
    assert [len(one.bodies) for one in running] == [1, 1, 1]


async def test_after_three_tries_it_is_unavailable() -> None:
    full = refusing(503, None)
    async with engine_on(full, full, full, writing(ROLE + DONE)) as (engine, running):
        _, error = await read(engine, a_chat())
    assert type(error) is EngineUnavailable and [len(one.bodies) for one in running] == [1, 1, 1, 0]


@pytest.mark.parametrize("first", [writing(ROLE, word("a"), gap=0.01, then="drop"), writing(ROLE[:9], then="drop")])
async def test_nothing_is_tried_again_after_a_byte_of_an_answer(first: Script) -> None:
    async with engine_on(first, writing(ROLE + DONE)) as (engine, running):
        _, error = await read(engine, a_chat())
    assert isinstance(error, EngineFailed | EngineUnavailable) and running[1].bodies == []


@pytest.mark.parametrize("status", [400, 404, 422, 429, 500, 502, 504])
async def test_nothing_else_is_tried_again(status: int) -> None:
    async with engine_on(refusing(status, error_body(status, "")), writing(ROLE + DONE)) as (engine, running):
        _, error = await read(engine, a_chat())
    assert isinstance(error, ServingError) and running[1].bodies == []


async def test_an_endpoint_of_others_that_says_503_has_said_so_for_all_of_its_replicas() -> None:
    async with engine_on(refusing(503, None, retry_after="7"), writing(ROLE + DONE), ours=False) as (engine, running):
        _, error = await read(engine, a_chat())
    assert isinstance(error, EngineUnavailable) and error.retry_after == 7 and running[1].bodies == []


async def test_all_tries_share_the_time_that_a_first_token_may_take() -> None:
    async def slowly_gone(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.15)
        return await dropping()(request)

    async with engine_on(slowly_gone, writing(then="hang"), first_token_timeout=0.2) as (engine, running):
        async with asyncio.timeout(2):
            _, error = await read(engine, a_chat())
    assert isinstance(error, EngineTimeout) and [len(one.bodies) for one in running] == [1, 1]


async def test_headers_do_not_start_the_time_for_a_first_token_anew() -> None:
    async def headers_late(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.15)
        return await writing(ROLE + DONE, gap=0.2)(request)

    async def then_late(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await asyncio.sleep(0.15)
        await response.prepare(request)
        await asyncio.sleep(10)
        return response

    async with engine_on(headers_late, first_token_timeout=1) as (engine, _):
        assert await read(engine, a_chat()) == (ROLE + DONE, None)
    async with engine_on(then_late, first_token_timeout=0.2) as (engine, running):
        async with asyncio.timeout(2):
            _, error = await read(engine, a_chat())
    assert isinstance(error, EngineTimeout) and len(running[0].bodies) == 1


def counting(prompt: int) -> Script:
    """Hangs after a token, and says what a request has cost, as our replicas do."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if "/usage/" in request.path:
            return web.json_response({"prompt": prompt, "cached": 0, "completion": 1})
        return await writing(ROLE + word("a"), then="hang")(request)

    return answer


async def test_only_the_replica_that_answered_is_asked_what_it_cost() -> None:
    async with replicas_that_count(dropping(), counting(5)) as (engine, asked):
        items = engine.answer(a_chat())
        await anext(items)
        await items.aclose()
        assert await engine.reckon("req_1") == Tally(prompt=5, cached=0, completion=1)
        assert asked == [[], ["/usage/req_1"]]


async def test_a_request_that_nobody_took_has_cost_nothing() -> None:
    async with replicas_that_count(dropping()) as (engine, asked):
        _, error = await read(engine, a_chat())
        assert error is not None and error.free and await engine.reckon("req_1") is None
        assert asked == [[]]


@asynccontextmanager
async def replicas_that_count(*scripts: Script) -> AsyncGenerator[tuple[HttpEngine, list[list[str]]], None]:
    """As engine_on, with plain servers, so that GET goes to the script too; and the paths of each one's GETs."""
    asked: list[list[str]] = [[] for _ in scripts]
    async with AsyncExitStack() as stack:
        urls = []
        for script, paths in zip(scripts, asked, strict=True):
            app = web.Application()

            async def answer(
                request: web.Request, script: Script = script, paths: list[str] = paths
            ) -> web.StreamResponse:
                if request.method == "GET":
                    paths.append(request.path)
                return await script(request)

            app.router.add_route("*", "/{path:.*}", answer)
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}/v1")
        engine = HttpEngine(Moving(*urls), model="m", ours=True)
        stack.push_async_callback(engine.close)
        yield engine, asked


async def test_the_tries_carry_the_same_request() -> None:
    async with engine_on(dropping(), writing(ROLE + DONE)) as (engine, running):
        await read(engine, a_chat())
    assert json.dumps(running[0].bodies) == json.dumps(running[1].bodies)
    assert running[0].headers[0]["x-request-id"] == running[1].headers[0]["x-request-id"] == "req_1"


async def test_a_request_that_cannot_be_written_is_never_sent() -> None:
    request = EngineRequest("chat", chat(length_penalty=float("nan")), True, "req_1", "salt")
    async with engine_on(writing(ROLE + DONE)) as (engine, running):
        _, error = await read(engine, request)
    assert isinstance(error, InvalidRequest) and running[0].bodies == []
