"""POST /v1/chat/completions, as a client sees it: whole, streamed, refused, broken off, left."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from serving.engines.echo import EchoEngine, PlannedFailure
from serving.errors import EngineFailed, EngineTimeout, EngineUnavailable
from tests.conftest import OpenSite
from tests.local import (
    DONE,
    ROLE,
    USAGE,
    RecordingEngine,
    Site,
    Tree,
    assert_says_when_to_come_back,
    chat,
    error_of,
    event,
    events,
    eventually,
    listening,
    text_of,
    word,
)

PATH = "/v1/chat/completions"


async def test_a_whole_answer_is_openais_with_its_usage(site: OpenSite) -> None:
    response = await site().client().post(PATH, json=chat("one two three"))
    answer = response.json()
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert (answer["object"], answer["model"]) == ("chat.completion", "echo")
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "one two three"}
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}


async def test_a_whole_answer_passes_byte_for_byte(site: OpenSite) -> None:
    odd = b'{ "object":"chat.completion",\n"x":"\xc3\xa9", "usage": null }'
    assert (await site(RecordingEngine((odd,))).client().post(PATH, json=chat())).content == odd


async def test_a_stream_is_events_that_add_up_to_the_answer_and_end_with_done(site: OpenSite) -> None:
    response = await site().client().post(PATH, json=chat("one two three", stream=True))
    payloads = events(response.content)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert text_of(payloads) == "one two three"
    assert (payloads[-2]["choices"][0]["finish_reason"], payloads[-1]) == ("stop", "[DONE]")


async def test_a_stream_says_that_nobody_may_hold_it_back_and_no_length(site: OpenSite) -> None:
    headers = (await site().client().post(PATH, json=chat(stream=True))).headers
    assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-cache", "no")
    assert "content-length" not in headers


STREAM = (ROLE, word("one"), word(" two"), event(choices=[], usage=USAGE) + DONE)


async def test_the_usage_event_is_hidden_from_who_did_not_ask_but_was_asked_of_the_engine(site: OpenSite) -> None:
    engine = RecordingEngine(STREAM)
    response = await site(engine).client().post(PATH, json=chat(stream=True))
    assert response.content == ROLE + word("one") + word(" two") + DONE
    assert engine.asked[0].body["stream_options"] == {"include_usage": True}


async def test_the_usage_event_passes_unchanged_to_who_asked(site: OpenSite) -> None:
    options = {"include_usage": True, "include_obfuscation": False}
    response = await site(RecordingEngine(STREAM)).client().post(PATH, json=chat(stream=True, stream_options=options))
    assert response.content == b"".join(STREAM)


async def test_the_usage_of_a_last_event_with_choices_counts_and_its_event_stays(site: OpenSite) -> None:
    last = event(choices=[{"index": 0, "delta": {}}], usage=USAGE)
    open_site = site(RecordingEngine((word("one"), last, DONE)))
    assert (await open_site.client().post(PATH, json=chat(stream=True))).content == word("one") + last + DONE
    assert open_site.log()[-1]["completion_tokens"] == USAGE["completion_tokens"]


async def test_other_events_pass_byte_for_byte(site: OpenSite) -> None:
    odd = (
        b'data: { "choices" : [ { "delta" : {"content":"\\"usage\\":{ \xc3\xa9 \\ud83d\\ude00"} } ] }\n\n',
        b'data: {"choices":[],"usage":null}\n\ndata: {\'not json\'}\n\n',
    )
    response = await site(RecordingEngine((*odd, DONE))).client().post(PATH, json=chat(stream=True))
    assert response.content == b"".join(odd) + DONE


@pytest.mark.parametrize("stream", [False, True])
async def test_the_log_has_the_engines_own_count_of_tokens(site: OpenSite, stream: bool) -> None:
    usage = USAGE | {"prompt_tokens_details": {"cached_tokens": 4}}
    items = (word("one"), event(choices=[], usage=usage), DONE) if stream else (json.dumps({"usage": usage}).encode(),)
    open_site = site(RecordingEngine(items))
    await open_site.client().post(PATH, json=chat(stream=stream))
    (line,) = open_site.log()
    assert (line["prompt_tokens"], line["cached_tokens"], line["completion_tokens"]) == (5, 4, 7)
    assert (line["outcome"], line["status"], line["stream"]) == ("ok", 200, stream)
    assert (line["ttft_ms"] is not None) == stream


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("error", [EngineUnavailable(retry_after=2.0), EngineTimeout(retry_after=0.0005)])
async def test_a_failure_before_the_first_token_is_a_status_with_both_retry_headers(
    site: OpenSite, stream: bool, error: EngineUnavailable | EngineTimeout
) -> None:
    open_site = site(RecordingEngine((), error))
    response = await open_site.client().post(PATH, json=chat(stream=stream))
    assert error_of(response, error.status, error.code)["message"] == error.message
    assert_says_when_to_come_back(response)
    assert open_site.log()[-1]["outcome"] == error.code


async def test_an_engine_that_ends_without_a_word_has_failed(site: OpenSite) -> None:
    response = await site(RecordingEngine(())).client().post(PATH, json=chat(stream=True))
    error_of(response, 502, "engine_failed")


async def test_a_failure_mid_stream_is_one_error_event_no_done_and_a_clean_end(site: OpenSite) -> None:
    open_site = site(RecordingEngine((ROLE, word("one"), word(" two")), EngineFailed()))
    with listening(open_site.app) as url:  # a real socket: httpx fails on a chunked body without its end
        async with open_site.client(url) as client:
            response = await client.post(PATH, json=chat(stream=True))
    *words, last = events(response.content)
    assert (response.status_code, text_of(words)) == (200, "one two")
    assert last["error"].keys() == {"message", "type", "param", "code"}
    assert last["error"]["code"] == "engine_failed"
    (line,) = open_site.log()
    assert (line["status"], line["outcome"], line["completion_tokens"]) == (200, "engine_failed", 2)


async def test_an_unexpected_exception_mid_stream_is_an_error_event_without_its_text(site: OpenSite) -> None:
    open_site = site(RecordingEngine((ROLE, word("one"), word(" two")), RuntimeError("CANARY")))
    response = await open_site.client().post(PATH, json=chat(stream=True))
    *_, last = events(response.content)
    assert last["error"]["code"] == "internal_error"
    assert "CANARY" not in response.text
    broke, line = open_site.log()
    assert (broke["event"], broke["error"]) == ("internal_error", "RuntimeError")
    assert line["outcome"] == "internal_error"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_stops_the_engine_and_pays_for_what_it_got(site: OpenSite, stream: bool) -> None:
    engine = EchoEngine(failures=[PlannedFailure("one", "stall", after=2)])
    open_site = site(engine, limits={"max_in_flight": 1})
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            leaving = asyncio.create_task(read_for_ever(client, chat(stream=stream)))
            await eventually(lambda: engine.running == 1)
            await asyncio.sleep(0.05)
            leaving.cancel()
            await eventually(lambda: engine.running == 0)
            again = await client.post(PATH, json=chat("another"))  # the lease was given back
    left, after = open_site.log()
    assert (left["outcome"], left["status"], left["completion_tokens"]) == (
        ("client_left", 200, 2) if stream else ("client_left", 499, 2)  # what was generated, seen or not
    )
    assert (again.status_code, after["outcome"]) == (200, "ok")


async def read_for_ever(client: httpx.AsyncClient, body: Tree) -> None:
    async with client.stream("POST", PATH, json=body) as response:
        async for _ in response.aiter_raw():
            pass


async def test_a_stream_arrives_as_it_is_made(site: OpenSite) -> None:
    engine = EchoEngine(failures=[PlannedFailure("", "stall", after=2)])
    open_site = site(engine)
    with listening(open_site.app) as url:
        async with (
            open_site.client(url) as client,
            client.stream("POST", PATH, json=chat("one two three", stream=True)) as response,
        ):
            seen = b""
            async with asyncio.timeout(2):
                async for data in response.aiter_raw():
                    seen += data
                    if b"two" in seen:
                        break
    assert text_of(events(seen)) == "one two"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("limit", [{"limits": {"max_in_flight": 2}}, {"gateway": {"max_in_flight": 2}}])
async def test_above_the_limit_in_flight_a_request_gets_429_and_below_it_goes_on(
    site: OpenSite, stream: bool, limit: Tree
) -> None:
    open_site = site(echo={"first_token": "60ms"}, **limit)
    client = open_site.client()
    answers = await asyncio.gather(*(client.post(PATH, json=chat(stream=stream)) for _ in range(3)))
    (refused,) = [answer for answer in answers if answer.status_code != 200]
    assert "limit" in error_of(refused, 429, "rate_limit_exceeded")["message"]
    assert_says_when_to_come_back(refused)
    again = await asyncio.gather(*(client.post(PATH, json=chat(stream=stream)) for _ in range(2)))
    assert [answer.status_code for answer in again] == [200, 200]


@pytest.mark.parametrize("failing", [RecordingEngine((), EngineUnavailable()), RecordingEngine((), RuntimeError())])
@pytest.mark.parametrize("body", [chat(), chat(stream=True), chat(max_tokens=10**6)])
async def test_a_request_that_fails_or_is_refused_gives_its_lease_back(
    site: OpenSite, failing: RecordingEngine, body: Tree
) -> None:
    client = site(failing, limits={"max_in_flight": 1, "max_tokens": 100}).client()
    statuses = {(await client.post(PATH, json=body)).status_code for _ in range(3)}
    assert len(statuses) == 1 and 429 not in statuses


async def test_an_answer_is_as_long_as_the_limit_unless_the_request_says_less(site: OpenSite) -> None:
    engine = RecordingEngine()
    client = site(engine, limits={"max_tokens": 100}).client()
    asked: list[Tree] = [{}, {"max_tokens": 7}, {"max_completion_tokens": 8}, {"max_tokens": None}]
    for fields in asked:
        assert (await client.post(PATH, json=chat(**fields))).status_code == 200
    got = [request.body.get("max_tokens", request.body.get("max_completion_tokens")) for request in engine.asked]
    assert got == [100, 7, 8, 100]


async def test_openai_fields_that_change_nothing_are_accepted_and_not_forwarded(site: OpenSite) -> None:
    ignored: Tree = {
        "metadata": {"ward": "7"}, "store": True, "service_tier": "auto", "safety_identifier": "x", "verbosity": "low",
        "prompt_cache_key": "x", "modalities": ["text"], "user": "someone", "stream_options": {"include_usage": True},
    }  # fmt: skip
    engine = RecordingEngine()
    assert (await site(engine).client().post(PATH, json=chat(**ignored))).status_code == 200
    assert engine.asked[0].body == chat()


async def test_what_is_allowed_reaches_the_engine_as_it_was_sent(site: OpenSite) -> None:
    fields: Tree = {
        "temperature": 0.5, "top_p": 0.9, "seed": 1, "stop": ["x"], "n": 2, "logprobs": True, "top_logprobs": 3,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        "tool_choice": "auto", "response_format": {"type": "json_object"}, "logit_bias": {"5": 1.0},
        "chat_template_kwargs": {"enable_thinking": False}, "top_k": 5, "min_p": 0.1, "ignore_eos": True,
    }  # fmt: skip
    engine = RecordingEngine()
    await site(engine).client().post(PATH, json=chat(**fields))
    assert engine.asked[0].body == chat(**fields)


async def test_the_engine_gets_our_request_id_and_the_tenants_namespace_and_no_tenant(site: OpenSite) -> None:
    engine = RecordingEngine()
    open_site = site(engine)
    response = await open_site.client().post(PATH, json=chat())
    (asked,) = engine.asked
    assert asked.request_id == response.headers["x-request-id"]
    assert len(asked.cache_salt) == 64 and "ward" not in repr(asked)


def test_the_openai_client_chats_streams_and_lists(site: OpenSite) -> None:
    with openai_client(site()) as client:
        assert [model.id for model in client.models.list()] == ["echo"]
        whole = client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "a b"}])
        assert whole.choices[0].message.content == "a b"
        stream = client.chat.completions.create(
            model="echo",
            messages=[{"role": "user", "content": "a b"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        *chunks, last = stream
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "a b"
        assert last.usage is not None and last.usage.completion_tokens == 2


def test_the_openai_client_raises_its_own_exception_for_each_of_our_errors(site: OpenSite) -> None:
    failures = [{"when": "DIE", "action": "die", "after": 2}, {"when": "REFUSE", "action": "refuse"}]
    with openai_client(site(echo={"failures": failures})) as client:
        ask: Any = client.chat.completions.create
        user = {"role": "user", "content": "a b c"}
        with pytest.raises(openai.NotFoundError, match="no deployment"):
            ask(model="nobody", messages=[user])
        with pytest.raises(openai.BadRequestError, match="'temperature'"):
            ask(model="echo", messages=[user], temperature=9)
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="wrong").models.list()
        with pytest.raises(openai.InternalServerError, match="Nothing was generated"):
            ask(model="echo", messages=[{"role": "user", "content": "REFUSE"}])
        with pytest.raises(openai.APIError, match="stopped before the answer was complete"):
            list(ask(model="echo", messages=[{"role": "user", "content": "a b DIE"}], stream=True))


class openai_client:  # noqa: N801 - reads as a context manager
    """The real client on a real socket."""

    def __init__(self, site: Site) -> None:
        self._listening, self._key = listening(site.app), site.key

    def __enter__(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self._listening.__enter__()}/v1", api_key=self._key, max_retries=0, timeout=5)

    def __exit__(self, *details: object) -> None:
        self._listening.__exit__(None, None, None)


async def test_answers_over_a_real_socket_are_recorded_as_ok_every_time(site: OpenSite) -> None:
    open_site = site()
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            for number in range(20):
                await client.post(PATH, json=chat(stream=bool(number % 2)))
    assert [line["outcome"] for line in open_site.log()] == ["ok"] * 20


async def test_an_engine_whose_answer_is_no_json_has_failed(site: OpenSite) -> None:
    open_site = site(RecordingEngine((b"<html>CANARY",)))
    response = await open_site.client().post(PATH, json=chat())
    error_of(response, 502, "engine_failed")
    assert open_site.log()[-1]["outcome"] == "engine_failed"
