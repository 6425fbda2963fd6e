"""The engine behind HTTP against a real server that misbehaves: cut, drop, stall, refuse, leave."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from serving.engines.credentials import KeyCredential
from serving.engines.engine import BATCH, INTERACTIVE, EngineRequest
from serving.engines.fields import VLLM_ONLY, Fields
from serving.engines.http import FixedEndpoint, HttpEngine
from serving.engines.refusals import EngineMisconfigured
from serving.errors import (
    ContextTooLong,
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
    InvalidRequest,
    ServingError,
)
from tests.engines.openai_stub import OpenAIStub, Script, error_body, nobody, refusing, stub, writing
from tests.local import DONE, ROLE, USAGE, WHOLE, Tree, chat, event, eventually, word

CANARY = "Zebulon-Quackenbush-19470231"
ERROR = event(**error_body(500, CANARY))


def a_chat(*, stream: bool = True, **fields: Any) -> EngineRequest:
    return EngineRequest("chat", chat(stream=stream, **fields), stream=stream, request_id="req_1", cache_salt="salt")


@asynccontextmanager
async def engine_on(script: Script, **options: Any) -> AsyncGenerator[tuple[HttpEngine, OpenAIStub], None]:
    async with stub(script) as running:
        engine = HttpEngine(FixedEndpoint(running.url), **{"model": "model-there", **options})
        yield engine, running
        await engine.close()


async def read(script: Script, request: EngineRequest, **options: Any) -> tuple[bytes, ServingError | None]:
    """The bytes that came and the error that ended them."""
    seen = b""
    async with engine_on(script, **options) as (engine, _):
        try:
            async for item in engine.answer(request):
                assert not request.stream or item.endswith(b"\n\n")
                seen += item
        except ServingError as error:
            return seen, error
    return seen, None


async def test_events_cut_across_writes_come_out_whole() -> None:
    text = ROLE + word("é" * 10) + event(choices=[], usage=USAGE) + DONE
    pieces = [text[start : start + 7] for start in range(0, len(text), 7)]
    assert await read(writing(*pieces, gap=0.0005), a_chat()) == (text, None)


async def test_many_events_in_one_write_come_out_as_they_came() -> None:
    text = ROLE + word("a") + word("b") + DONE
    assert await read(writing(text), a_chat()) == (text, None)


async def test_an_error_event_at_first_is_still_a_status() -> None:
    seen, error = await read(writing(event(**error_body(400, f"bad {CANARY}", "seed")) + DONE), a_chat())
    assert seen == b"" and isinstance(error, InvalidRequest) and CANARY not in error.message
    seen, error = await read(writing(ERROR + DONE), a_chat())
    assert seen == b"" and isinstance(error, EngineUnavailable) and CANARY not in error.message


@pytest.mark.parametrize("pieces", [(ROLE, ERROR + DONE), (ROLE + ERROR,), (ROLE, ERROR[:20], ERROR[20:], DONE)])
async def test_an_error_event_mid_stream_is_a_failure_after_the_last_whole_event(pieces: tuple[bytes, ...]) -> None:
    seen, error = await read(writing(*pieces, gap=0.01), a_chat())
    assert seen == ROLE and isinstance(error, EngineFailed) and CANARY not in error.message


async def test_text_that_looks_like_an_error_event_is_passed_on() -> None:
    text = ROLE + word('data: {"error":{}}') + DONE
    assert await read(writing(text), a_chat()) == (text, None)


@pytest.mark.parametrize("then", ["drop", "end"])
async def test_a_stream_that_ends_without_done_has_failed_after_its_last_whole_event(then: Any) -> None:
    seen, error = await read(writing(ROLE + word("a"), word("b")[:9], gap=0.01, then=then), a_chat())
    assert seen == ROLE + word("a") and isinstance(error, EngineFailed)


@pytest.mark.parametrize("pieces", [(), (ROLE[:9],)])
@pytest.mark.parametrize("then", ["drop", "end"])
async def test_a_stream_that_ends_before_its_first_event_was_not_taken(pieces: tuple[bytes, ...], then: Any) -> None:
    seen, error = await read(writing(*pieces, gap=0.01, then=then), a_chat())
    assert seen == b"" and isinstance(error, EngineUnavailable) and error.retry_after


async def test_a_whole_answer_that_is_cut_off_was_not_given_and_can_be_repeated() -> None:
    seen, error = await read(writing(WHOLE[:9], gap=0.01, then="drop"), a_chat(stream=False))
    assert seen == b"" and isinstance(error, EngineUnavailable) and error.retry_after


async def test_silence_before_the_first_token_is_a_timeout() -> None:
    started = time.perf_counter()
    seen, error = await read(writing(then="hang"), a_chat(), first_token_timeout=0.1)
    assert seen == b"" and isinstance(error, EngineTimeout) and error.retry_after
    assert 0.1 <= time.perf_counter() - started < 2


async def test_silence_mid_stream_is_a_failure_by_a_shorter_patience_of_its_own() -> None:
    stalls = writing(ROLE + word("a"), then="hang")
    async with asyncio.timeout(2):
        seen, error = await read(stalls, a_chat(), first_token_timeout=30, idle_timeout=0.1)
    assert seen == ROLE + word("a") and isinstance(error, EngineFailed)


async def test_a_slow_stream_that_goes_on_is_not_idle() -> None:
    slow = writing(*[ROLE, *[word("a")] * 5, DONE], gap=0.03)
    seen, error = await read(slow, a_chat(), first_token_timeout=30, idle_timeout=0.15)
    assert seen.count(b"\n\n") == 7 and error is None


async def test_a_whole_answer_has_a_patience_of_its_own() -> None:
    _, error = await read(writing(then="hang"), a_chat(stream=False), first_token_timeout=30, answer_timeout=0.1)
    assert isinstance(error, EngineTimeout)


async def test_a_replica_that_takes_no_connection_was_never_asked_so_it_is_unavailable() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):  # the backlog is full: further connections are neither taken nor refused
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        engine = HttpEngine(
            FixedEndpoint(f"http://127.0.0.1:{full.getsockname()[1]}/v1"), model="m", connect_timeout=0.1
        )
        with pytest.raises(EngineUnavailable):
            await anext(engine.answer(a_chat()))
        await engine.close()


TOO_LONG = [
    f"This model's maximum context length is 4096 tokens. However, you requested {CANARY}.",
    f"The prompt {CANARY} (length 5000) exceeds the limit max_model_len=4096.",
    f"maximum context length of 4096 tokens; {CANARY}",
]


@pytest.mark.parametrize("message", TOO_LONG)
async def test_a_prompt_that_is_too_long_is_told_with_the_number_and_nothing_else(message: str) -> None:
    _, error = await read(refusing(400, error_body(400, message, "input_tokens")), a_chat())
    assert isinstance(error, ContextTooLong) and CANARY not in error.message
    assert "maximum context length is 4096 tokens" in error.message and error.param == "messages"


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_another_refusal_of_the_engine_is_told_without_its_words(status: int) -> None:
    _, error = await read(refusing(status, error_body(status, CANARY, f"logit_bias.{CANARY}")), a_chat())
    assert isinstance(error, InvalidRequest) and CANARY not in error.message
    assert error.param == "logit_bias" and "Look at 'logit_bias'" in error.message


@pytest.mark.parametrize("param", [CANARY, "", None, 5, {"a": 1}])
async def test_a_place_that_is_no_field_is_left_out(param: Any) -> None:
    _, error = await read(refusing(400, error_body(400, CANARY, param)), a_chat())
    assert error is not None and CANARY not in error.message and CANARY not in str(error.param)


async def test_a_schema_that_the_engine_cannot_compile_is_told_as_such() -> None:
    _, error = await read(refusing(400, error_body(400, f"Grammar error: {CANARY}")), a_chat())
    assert isinstance(error, InvalidRequest) and "JSON schema" in error.message and CANARY not in error.message


@pytest.mark.parametrize("status", [401, 403, 404, 408, 409, 500, 502, 503])
@pytest.mark.parametrize("body", [error_body(500, CANARY), None, {"detail": CANARY}, {"error": CANARY}])
async def test_any_other_status_of_a_replica_is_unavailable_and_not_the_clients_fault(status: int, body: Any) -> None:
    _, error = await read(refusing(status, body), a_chat(stream=False), ours=True)
    assert type(error) is EngineUnavailable and CANARY not in error.message and error.retry_after


async def test_the_engine_gets_its_own_model_name_our_headers_and_our_id() -> None:
    async with engine_on(writing(ROLE + DONE), headers={"x-clinserve-engine": "secret"}) as (engine, running):
        assert [item async for item in engine.answer(a_chat())]
    assert running.bodies == [chat(stream=True) | {"model": "model-there"}]
    (headers,) = running.headers
    assert (headers["x-clinserve-engine"], headers["x-request-id"]) == ("secret", "req_1")
    assert headers.keys() == {"host", "accept", "content-type", "content-length", "x-request-id", "x-clinserve-engine"}


@pytest.mark.parametrize("ours", [False, True])
async def test_only_vllm_gets_the_tenants_namespace(ours: bool) -> None:
    async with engine_on(writing(WHOLE), ours=ours) as (engine, running):
        assert [item async for item in engine.answer(a_chat(stream=False))] == [WHOLE]
    assert running.bodies[0].get("cache_salt") == ("salt" if ours else None)


@pytest.mark.parametrize(
    ("operation", "body"), [("completions", {"prompt": "x"}), ("embeddings", {"input": ["x", "y"]})]
)
async def test_each_operation_goes_to_its_own_path(operation: Any, body: Tree) -> None:
    async with engine_on(writing(WHOLE)) as (engine, running):
        request = replace(a_chat(stream=False), operation=operation, body=body)
        assert [item async for item in engine.answer(request)] == [WHOLE]
    assert running.bodies == [body | {"model": "model-there"}] and running.paths == [f"/v1/{operation}"]


@pytest.mark.parametrize(("priority", "lane"), [(BATCH, "batch"), (5, None), (INTERACTIVE, None), (-5, None)])
async def test_only_our_replicas_are_told_what_goes_first(priority: int, lane: str | None) -> None:
    request = replace(a_chat(stream=False), priority=priority)
    for ours in (True, False):
        async with engine_on(writing(WHOLE), ours=ours) as (engine, running):
            assert [item async for item in engine.answer(request)] == [WHOLE]
        assert running.bodies[0].get("priority", 0) == (priority if ours else 0)
        assert running.headers[0].get("x-clinserve-lane") == (lane if ours else None)
    assert "priority" not in running.bodies[0]


async def test_an_endpoint_gets_only_the_fields_it_takes() -> None:
    fields = Fields(drop=VLLM_ONLY, rename={"max_tokens": "max_completion_tokens"})
    async with engine_on(writing(WHOLE), fields=fields) as (engine, running):
        request = a_chat(stream=False, top_k=5, min_p=0.1, max_tokens=7, seed=1)
        assert [item async for item in engine.answer(request)] == [WHOLE]
    assert running.bodies == [chat(stream=False, seed=1, max_completion_tokens=7) | {"model": "model-there"}]


async def test_a_redirect_is_not_followed_with_our_credential() -> None:
    async with stub(writing(WHOLE)) as elsewhere:
        options = {"credential": KeyCredential("k", header="api-key")}
        _, error = await read(refusing(307, None, location=elsewhere.url), a_chat(stream=False), **options)
    assert isinstance(error, EngineMisconfigured) and elsewhere.headers == []


async def test_a_number_that_json_cannot_hold_is_refused_before_it_is_sent() -> None:
    async with engine_on(writing(WHOLE)) as (engine, running):
        with pytest.raises(InvalidRequest, match="number"):
            await anext(engine.answer(a_chat(length_penalty=float("inf"))))
    assert running.bodies == []


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_closes_the_connection_so_that_the_engine_sees_it(stream: bool) -> None:
    async with engine_on(writing(ROLE, then="hang")) as (engine, running):
        answer = asyncio.ensure_future(drain(engine, a_chat(stream=stream)))
        await eventually(lambda: len(running.bodies) == 1)
        await asyncio.sleep(0.02)
        answer.cancel()
        await eventually(lambda: running.left == 1)


async def drain(engine: HttpEngine, request: EngineRequest) -> None:
    async with aclosing(engine.answer(request)) as items:
        async for _ in items:
            pass


@pytest.mark.parametrize("path", ["/v1/models", "/health"])
async def test_it_is_ready_when_the_endpoint_says_so_at_its_path(path: str) -> None:
    async with engine_on(writing(WHOLE), ready_path=path, headers={"authorization": "Bearer k"}) as (engine, running):
        assert await engine.ready()
    assert running.headers[0]["authorization"] == "Bearer k"


async def test_it_is_not_ready_when_nobody_listens() -> None:
    engine = HttpEngine(FixedEndpoint(nobody()), model="m")
    assert not await engine.ready()
    await engine.close()


@pytest.mark.parametrize(("ours", "told"), [(True, "00-ab-cd-01"), (False, None)])
async def test_only_a_replica_of_ours_is_told_of_a_trace(ours: bool, told: str | None) -> None:
    async with engine_on(writing(WHOLE), ours=ours) as (engine, running):
        request = replace(a_chat(stream=False), traceparent="00-ab-cd-01")
        assert [item async for item in engine.answer(request)]
    assert [headers.get("traceparent") for headers in running.headers] == [told]
    assert not {"tracestate", "baggage"} & running.headers[0].keys()
