"""What any Engine promises (serving/engines/engine.py), checked on each of them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest

from serving.engines.breaker import BreakingEngine
from serving.engines.credentials import KeyCredential
from serving.engines.echo import EchoEngine, PlannedFailure
from serving.engines.endpoints import addressed
from serving.engines.engine import Engine, EngineRequest
from serving.engines.http import FixedEndpoint, HttpEngine
from serving.errors import ContextTooLong, EngineFailed, EngineUnavailable
from tests.engines.azure_stub import KEY, VERSION, azurely
from tests.engines.openai_stub import echoing, stub
from tests.local import DONE, Tree, chat, events, eventually, text_of

FAILURES = [
    PlannedFailure("REFUSE", "refuse"),
    PlannedFailure("BREAK", "die", after=2),
    PlannedFailure("NEVER", "die"),
    PlannedFailure("STALL", "stall", after=2),
]


@dataclass(frozen=True)
class Subject:
    """An engine and where its work is done."""

    engine: Engine
    works: EchoEngine


@pytest.fixture(params=["echo", "ours", "foreign", "azure", "breaking"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    works = EchoEngine(max_model_len=50, failures=FAILURES)
    if request.param == "echo":
        yield Subject(works, works)
    elif request.param == "breaking":
        yield Subject(BreakingEngine(works), works)
    elif request.param == "azure":
        async with stub(azurely(works)) as running:
            endpoints, address = addressed(running.url[:-3], model="gpt there", api_version=VERSION)
            credential = KeyCredential(KEY, header="api-key")
            engine = HttpEngine(endpoints, model="gpt there", address=address, credential=credential)
            yield Subject(engine, works)
            await engine.close()
    else:
        async with stub(echoing(works)) as running:
            engine = HttpEngine(FixedEndpoint(running.url), model="echo", ours=request.param == "ours")
            yield Subject(engine, works)
            await engine.close()


def a_chat(text: str = "one two three", *, stream: bool = True, **fields: Any) -> EngineRequest:
    if stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return EngineRequest("chat", chat(text, **fields), stream=stream, request_id="req_1", cache_salt="salt")


async def read(engine: Engine, request: EngineRequest) -> list[bytes]:
    return [item async for item in engine.answer(request)]


async def test_a_stream_is_items_of_whole_events_the_last_of_them_done(subject: Subject) -> None:
    items = await read(subject.engine, a_chat())
    assert all(events(item) for item in items)
    assert text_of(events(b"".join(items))) == "one two three"
    assert items[-1].endswith(DONE) and b"".join(items).count(DONE) == 1


async def test_the_event_before_done_has_the_usage_and_no_choices(subject: Subject) -> None:
    *_, usage, _ = events(b"".join(await read(subject.engine, a_chat())))
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}


async def test_a_whole_answer_is_one_json_object_with_usage(subject: Subject) -> None:
    (item,) = await read(subject.engine, a_chat(stream=False))
    answer = json.loads(item)
    assert answer["choices"][0]["message"]["content"] == "one two three"
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_completion_continues_its_prompt(subject: Subject, stream: bool) -> None:
    body = {"model": "echo", "prompt": "one two", "stream": stream}
    request = replace(a_chat(stream=stream), operation="completions", body=body)
    answer = b"".join(await read(subject.engine, request))
    payloads = events(answer)[:-1] if stream else [json.loads(answer)]
    assert "".join(choice["text"] for payload in payloads for choice in payload["choices"]) == "one two"


async def test_embeddings_are_one_json_object_with_a_vector_for_each_input_and_usage(subject: Subject) -> None:
    body = {"model": "echo", "input": ["one two", "three"]}
    (item,) = await read(subject.engine, replace(a_chat(stream=False), operation="embeddings", body=body))
    answer = json.loads(item)
    assert [vector["index"] for vector in answer["data"]] == [0, 1]
    assert answer["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


@pytest.mark.parametrize("fields", [{"max_tokens": 2}, {"max_completion_tokens": 2}])
async def test_an_answer_stops_at_the_number_of_tokens_asked_for(subject: Subject, fields: Tree) -> None:
    answer = json.loads(b"".join(await read(subject.engine, a_chat(stream=False, **fields))))
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", ["REFUSE", "NEVER"])
async def test_a_failure_before_the_first_item_is_unavailable(subject: Subject, text: str, stream: bool) -> None:
    with pytest.raises(EngineUnavailable) as failed:
        await anext(subject.engine.answer(a_chat(text, stream=stream)))
    assert failed.value.retry_after is not None and failed.value.retry_after > 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_does_not_fit_is_refused_with_the_models_length(subject: Subject, stream: bool) -> None:
    with pytest.raises(ContextTooLong, match="maximum context length is 50 tokens"):
        await anext(subject.engine.answer(a_chat("word " * 50, stream=stream)))


async def test_a_failure_afterwards_comes_after_the_last_whole_event(subject: Subject) -> None:
    items = subject.engine.answer(a_chat("one two BREAK"))
    seen = b""
    while b"two" not in seen:
        seen += await anext(items)
    assert text_of(events(seen)) == "one two"
    with pytest.raises(EngineFailed):
        await anext(items)


async def test_items_come_as_they_are_made(subject: Subject) -> None:
    async with aclosing(subject.engine.answer(a_chat("one two STALL"))) as items:
        seen = b""
        while b"two" not in seen:
            seen += await anext(items)
        assert subject.works.running == 1


@pytest.mark.parametrize("begun", [False, True])
async def test_closing_stops_the_work_at_once(subject: Subject, begun: bool) -> None:
    items = subject.engine.answer(a_chat("one two STALL"))
    if begun:
        await anext(items)
        await eventually(lambda: subject.works.running == 1)
    await items.aclose()
    await eventually(lambda: subject.works.running == 0)


async def test_work_ends_with_its_answer(subject: Subject) -> None:
    for text in ("one", "one two BREAK", "REFUSE"):
        with suppress(EngineFailed, EngineUnavailable):
            await read(subject.engine, a_chat(text))
        await eventually(lambda: subject.works.running == 0)


async def test_an_engine_that_can_serve_is_ready_and_can_be_closed_twice(subject: Subject) -> None:
    assert await subject.engine.ready()
    await subject.engine.close()
    await subject.engine.close()


async def test_an_answer_that_was_read_to_its_end_needs_no_reckoning(subject: Subject) -> None:
    await read(subject.engine, a_chat())
    assert await subject.engine.reckon("req_1") is None


async def test_what_is_cut_ends_with_an_error_and_is_still_reckoned_and_nothing_more_is_taken(subject: Subject) -> None:
    subject.works._inter_token = 0.05
    items = subject.engine.answer(a_chat(" ".join(["word"] * 20)))
    await anext(items)
    subject.engine.cut()
    with pytest.raises(EngineFailed):
        async for _ in items:
            pass
    tally = await subject.engine.reckon("req_1")
    assert tally is None or tally.completion > 0  # an endpoint elsewhere does not say
    with pytest.raises(EngineUnavailable):
        await read(subject.engine, a_chat())
