"""Streams of endpoints that are not ours come out in our form, or fail as ours would."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from typing import Any

import httpx
import httpx_sse
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engines.engine import EngineRequest
from serving.engines.http import FixedEndpoint, HttpEngine
from serving.engines.refusals import EngineBusy
from serving.errors import ContentFiltered, EngineFailed, EngineTimeout, EngineUnavailable, ServingError
from serving.protocol import sse
from tests.engines.openai_stub import Script, stub, writing
from tests.local import DONE, ROLE, WHOLE, chat, event, word

CANARY = "Zebulon-Quackenbush-19470231"
STOP = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
FILTERS = event(id="", choices=[], prompt_filter_results=[{"content_filter_results": {"error": {"code": "x"}}}])
WHOLE_STREAM = ROLE + word("é") + STOP + DONE


async def read(script: Script, *, stream: bool = True, **options: Any) -> tuple[bytes, ServingError | None]:
    body, seen = chat(stream=stream, n=options.pop("n", None)), b""
    async with stub(script) as running:
        engine = HttpEngine(FixedEndpoint(running.url), **{"model": "m", **options})
        try:
            async for item in engine.answer(EngineRequest("chat", body, stream, "req_1", "salt")):
                seen += item
        except ServingError as error:
            return seen, error
        finally:
            await engine.close()
    return seen, None


FORMS = {
    "CRLF": WHOLE_STREAM.replace(b"\n", b"\r\n"),
    "CR": WHOLE_STREAM.replace(b"\n", b"\r"),
    "comments": b": hello\n\n" + WHOLE_STREAM.replace(b"data:", b": keep-alive\ndata:") + b": bye\n\n",
    "other fields": WHOLE_STREAM.replace(b"data:", b"event: message\nid: 7\nretry: 10\ndata:"),
    "no space": WHOLE_STREAM.replace(b"data: ", b"data:"),
    "spaces after": WHOLE_STREAM.replace(b"[DONE]", b"[DONE]   ").replace(b"}\n", b"}  \n"),
    "more blank lines": WHOLE_STREAM.replace(b"\n\n", b"\n\n\n\n"),
    "no last blank line": WHOLE_STREAM.removesuffix(b"\n\n"),
    "no [DONE]": WHOLE_STREAM.removesuffix(DONE),
    "no [DONE], no last blank line": WHOLE_STREAM.removesuffix(b"\n\n" + DONE),
    "more after [DONE]": WHOLE_STREAM + word("x") + DONE,
    "empty data": b"data:\n\ndata\n\n" + WHOLE_STREAM,
    "byte order mark": b"\xef\xbb\xbf" + WHOLE_STREAM,
    "mixed line ends": ROLE.replace(b"\n", b"\r") + word("é").replace(b"\n", b"\r\n") + STOP + DONE,
}


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_a_stream_comes_out_as_ours(form: str) -> None:
    assert await read(writing(FORMS[form])) == (WHOLE_STREAM, None)


@given(st.sampled_from(sorted(FORMS)), st.lists(st.integers(0, 600), max_size=6))
def test_it_does_not_matter_where_reads_cut_a_stream(form: str, cuts: list[int]) -> None:
    text, cutter = FORMS[form], sse.ForeignEventCutter()
    edges = [0, *sorted(cuts), len(text)]
    blocks = [cutter.feed(text[start:end]) for start, end in itertools.pairwise(edges) if end > start]
    assert b"".join(blocks) + cutter.end() == WHOLE_STREAM
    assert all(not block or block.endswith(b"\n\n") for block in blocks)


def test_events_come_out_as_soon_as_they_are_whole() -> None:
    cutter = sse.ForeignEventCutter()
    assert cutter.feed(b"data: {}\r\n\r\nda") == b"data: {}\n\n"
    assert cutter.feed(b'ta: {"a":') == b""
    assert cutter.feed(b"1}\n\n") == b'data: {"a":1}\n\n'


def test_a_line_that_ends_in_cr_ends_at_once() -> None:
    cutter = sse.ForeignEventCutter()
    assert cutter.feed(b"data: {}\r\r") == b"data: {}\n\n"
    assert cutter.feed(b"\ndata: [DONE]\r\n\r") == DONE


def test_data_in_several_lines_becomes_one() -> None:
    assert sse.ForeignEventCutter().feed(b'data: {"a":\ndata: 1}\n\n') == b'data: {"a": 1}\n\n'


async def test_azures_first_event_passes_though_it_has_an_error_inside() -> None:
    assert await read(writing(FILTERS + WHOLE_STREAM)) == (FILTERS + WHOLE_STREAM, None)


@pytest.mark.parametrize("n", [None, 2])
async def test_a_stream_that_ends_before_all_its_choices_have_was_cut_off(n: int | None) -> None:
    text = ROLE + word("a") + (STOP if n else b"")
    seen, error = await read(writing(text), n=n)
    assert seen == text and isinstance(error, EngineFailed)


ENDS = ["", "stopped", "STOP", None, 0, True, ["stop"], {"reason": "stop"}]


@pytest.mark.parametrize("reason", ENDS, ids=repr)
async def test_only_a_known_finish_reason_is_an_end(reason: Any) -> None:
    half = ROLE + event(choices=[{"index": 0, "delta": {"content": "Stop the"}, "finish_reason": reason}]) * 2
    assert await read(writing(half + DONE)) == (half + DONE, None)
    seen, error = await read(writing(half))
    assert seen == half and isinstance(error, EngineFailed)


async def test_each_choice_must_end_and_not_one_of_them_twice() -> None:
    text = ROLE + STOP + STOP
    assert isinstance((await read(writing(text), n=2))[1], EngineFailed)
    other = event(choices=[{"index": 1, "delta": {}, "finish_reason": "length"}])
    assert await read(writing(text + other), n=2) == (text + other + DONE, None)


async def test_the_stream_ends_at_done_though_the_endpoint_holds_the_connection() -> None:
    held = writing(WHOLE_STREAM, *[b""] * 300, gap=0.1)
    async with asyncio.timeout(5):
        assert await read(held, idle_timeout=0.2) == (WHOLE_STREAM, None)


@pytest.mark.parametrize("odd", [b"data: hello\n\n", b"data: [1]\n\n", b'data: {"a": NaN}\n\n', b"data: {\n\n"])
async def test_an_event_that_is_no_json_object_breaks_the_stream(odd: bytes) -> None:
    seen, error = await read(writing(ROLE + odd + DONE, *[b": waits\n\n"] * 100, gap=0.1))
    assert seen == ROLE and isinstance(error, EngineFailed)


PIECES = [
    b"data", b":", b" ", b"\n", b"\r", b"\r\n", b"\n\n", b"event: x", b"id: 1", b"retry: 3", b": comment",
    b"\xef\xbb\xbf", b"data: {}", b'data:{"a":\ndata: 1}', b"data", b"dat", b" data: {}", b"data : {}",
    b'data: {"b": "\\r\\n"}',
]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=24), st.integers(1, 9))
def test_events_are_those_of_a_reference_parser(pieces: list[bytes], size: int) -> None:
    text, cutter = b"".join(pieces).removeprefix(b"\xef\xbb\xbf") + b"\n\n", sse.ForeignEventCutter()
    page = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=text)
    expected = [one.data for one in httpx_sse.EventSource(page).iter_sse() if one.data.strip()]
    found = b""
    with contextlib.suppress(ValueError):  # of an event that is no object: the stream breaks there
        for start in range(0, len(text), size):
            found += cutter.feed(text[start : start + size])
    ours = [json.loads(one.removeprefix(b"data: ")) for one in found.split(b"\n\n") if one]
    assert ours == list(itertools.takewhile(lambda value: value is not None, map(object_in, expected)))


def object_in(text: str) -> Any:
    with contextlib.suppress(ValueError):
        value = json.loads(text)
        return value if isinstance(value, dict) else None


ERRORS = [
    b"event: error\n" + event(message=CANARY, type="overloaded_error"),
    event(error={"message": CANARY, "code": "server_error"}),
    event(id="x", choices=[], error={"message": CANARY}),
    event(error=CANARY),
    b'data:{ "error" : {"message":"' + CANARY.encode() + b'"} }\r\n\r\n',
]


@pytest.mark.parametrize("text", ERRORS)
async def test_an_error_event_of_any_form_is_a_failure(text: bytes) -> None:
    seen, error = await read(writing(ROLE + text))
    assert seen == ROLE and isinstance(error, EngineFailed) and CANARY not in error.message
    seen, error = await read(writing(text))
    assert seen == b"" and type(error) is EngineUnavailable and CANARY not in error.message


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("code", "kind"), [("429", EngineBusy), (429, EngineBusy), ("content_filter", None)])
async def test_an_error_with_status_200_means_what_it_says(code: Any, kind: Any, stream: bool) -> None:
    body = {"error": {"message": CANARY, "code": code}}
    _, error = await read(writing(event(**body) if stream else json.dumps(body).encode()), stream=stream)
    assert isinstance(error, kind or ContentFiltered) and CANARY not in error.message


async def test_a_whole_answer_passes_untouched() -> None:
    assert await read(writing(WHOLE), stream=False) == (WHOLE, None)


def beating(first: bytes) -> Script:
    """Keep-alive comments without end after `first`."""
    return writing(first, *[b": keep-alive\n\n"] * 1000, gap=0.01)


async def test_keep_alive_comments_are_no_tokens() -> None:
    async with asyncio.timeout(3):
        assert isinstance((await read(beating(b""), first_token_timeout=0.1))[1], EngineTimeout)
        seen, error = await read(beating(ROLE), idle_timeout=0.1)
    assert seen == ROLE and isinstance(error, EngineFailed)


async def test_comments_before_a_slow_first_token_are_waited_through() -> None:
    slow = writing(*[b": keep-alive\n\n"] * 20, WHOLE_STREAM, gap=0.01)
    assert await read(slow, idle_timeout=0.05, first_token_timeout=5) == (WHOLE_STREAM, None)


def test_an_event_without_end_is_not_kept_without_end() -> None:
    cutter = sse.ForeignEventCutter()
    assert cutter.feed(b"x" * sse.LONGEST_EVENT) == b""
    with pytest.raises(ValueError, match="too long"):
        cutter.feed(b"x")


async def test_what_is_no_event_stream_is_a_failure() -> None:
    seen, error = await read(writing(b"<html>" + CANARY.encode() + b"</html>"))
    assert seen == b"" and isinstance(error, EngineUnavailable) and CANARY not in error.message
