"""What a client sees of guards: blocked prompts, annotated answers, answers that end early."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest

from serving.engines.engine import EngineRequest, Tally
from serving.errors import ContentFiltered, EngineFailed
from serving.guards.blocklist import Blocklist
from serving.guards.guarded import GuardedEngine
from serving.guards.pii import PiiGuard
from tests.guards.answers import USAGE, a_request, answered, choices_of, chunk, ended, said, streamed, text_of, whole
from tests.local import DONE, RecordingEngine, events

FOUND = {"custom_blocklists": {"filtered": True, "details": [{"filtered": True, "id": "drugs"}]}}
CLEAN = {"custom_blocklists": {"filtered": False, "details": []}}


def blocking(**fields: Any) -> Blocklist:
    return Blocklist("drugs", terms=["fentanyl patch"], **fields)


def says(*items: bytes, tally: Tally | None = None) -> RecordingEngine:
    return RecordingEngine(items=items, tally=tally)


async def test_a_blocked_prompt_is_azures_400_and_never_reaches_the_engine() -> None:
    inner = says(whole("hi"))
    with pytest.raises(ContentFiltered) as refused:
        await answered(GuardedEngine(inner, [blocking()]), "how strong is a FENTANYL  patch?")
    assert inner.asked == [] and (refused.value.status, refused.value.free) == (400, True)
    error: Any = (refused.value.azure_body() or {})["error"]
    assert (error["code"], error["param"], error["status"]) == ("content_filter", "prompt", 400)
    assert error["innererror"] == {"code": "ResponsibleAIPolicyViolation", "content_filter_result": FOUND}
    assert "patch" not in json.dumps(error)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "system", "content": "fentanyl patch"}, {"role": "user", "content": "hi"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "fentanyl patch"}]}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "fentanyl patch"}}]}]},
        {"messages": [{"role": "user", "content": "hi"}], "tools": [{"function": {"description": "fentanyl patch"}}]},
        {"prompt": ["hi", "fentanyl patch"]},
        {"prompt": "hi", "suffix": "fentanyl patch"},
        {"input": ["hi", "fentanyl patch"]},
    ],
)
async def test_all_that_a_model_reads_is_part_of_the_prompt(body: dict[str, Any]) -> None:
    request = replace(a_request(), body=body, operation="embeddings" if "input" in body else "chat")
    with pytest.raises(ContentFiltered):
        await anext(GuardedEngine(says(whole("hi")), [blocking()]).answer(request))


async def test_a_prompt_of_token_ids_and_an_inline_image_have_nothing_to_check() -> None:
    engine = GuardedEngine(says(whole("hi")), [Blocklist("short", terms=["aaaa", "1"])])
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}}]}
    for body in ({"prompt": [1, 2]}, {"prompt": [[1], [2]]}, {"messages": [picture]}):
        assert await anext(engine.answer(replace(a_request(), body=body)))


async def test_embeddings_pass_as_they_are() -> None:
    request = replace(a_request(), body={"input": "hi"}, operation="embeddings")
    assert [b async for b in GuardedEngine(says(b"vectors"), [blocking()]).answer(request)] == [b"vectors"]


async def test_an_answer_says_what_was_found_in_it_and_in_the_prompt() -> None:
    engine = GuardedEngine(
        says(whole("call +49 30 1234567")), [blocking(), PiiGuard("pii", stages=frozenset({"answer"}))]
    )
    answer = await answered(engine)
    assert answer["prompt_filter_results"] == [{"prompt_index": 0, "content_filter_results": CLEAN}]
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == "call +49 30 1234567" and choice["finish_reason"] == "stop"
    assert choice["content_filter_results"] == CLEAN | {
        "personally_identifiable_information": {
            "filtered": False,
            "detected": True,
            "sub_categories": [{"sub_category": "phone", "filtered": False, "detected": True}],
        }
    }


async def test_a_blocked_choice_is_empty_the_others_stand_and_usage_is_kept() -> None:
    answer = await answered(GuardedEngine(says(whole("take a fentanyl patch", "rest")), [blocking()]), n=2)
    blocked, other = answer["choices"]
    assert blocked == {
        "index": 0,
        "logprobs": None,
        "finish_reason": "content_filter",
        "message": {"role": "assistant", "content": ""},
        "content_filter_results": FOUND,
    }
    assert (other["message"]["content"], other["finish_reason"]) == ("rest", "stop")
    assert answer["usage"] == USAGE


async def test_annotating_finds_the_same_and_blocks_nothing() -> None:
    engine = GuardedEngine(says(whole("a fentanyl patch")), [blocking(mode="annotate")])
    (choice,) = (await answered(engine, "fentanyl patch"))["choices"]
    assert choice["message"]["content"] == "a fentanyl patch"
    assert choice["content_filter_results"]["custom_blocklists"] == {
        "filtered": False,
        "details": [{"filtered": False, "id": "drugs"}],
    }


async def test_a_stream_begins_with_the_prompts_results_and_annotates_its_chunks() -> None:
    first, *rest = await streamed(GuardedEngine(says(*said("all", " well"), ended()), [blocking()]))
    assert first["choices"] == [] and first["prompt_filter_results"][0]["content_filter_results"] == CLEAN
    assert text_of(rest) == "all well" and rest[-2]["usage"] == USAGE and rest[-1] == "[DONE]"
    role, *chunks = choices_of(rest)
    assert "content_filter_results" not in role
    assert all(choice["content_filter_results"] == CLEAN for choice in chunks)


async def test_a_stream_stops_before_the_blocked_text_and_tells_what_it_has_cost() -> None:
    items = [*said("Take ", "a ", "fentan", "yl pat", "ch", " now"), ended()]
    inner = says(*items, tally=Tally(prompt=5, cached=2, completion=7))
    seen = await streamed(GuardedEngine(inner, [blocking()]))
    assert text_of(seen) == "Take a "
    *_, last, usage, done = seen
    assert last["choices"][0] | {"content_filter_results": 0} == {
        "index": 0, "logprobs": None, "finish_reason": "content_filter", "delta": {}, "content_filter_results": 0,
    }  # fmt: skip
    assert last["choices"][0]["content_filter_results"] == FOUND and last["id"] == "chatcmpl-1"
    assert usage["choices"] == [] and done == "[DONE]" and inner.reckoned == ["req_1"]
    assert (usage["usage"]["prompt_tokens"], usage["usage"]["completion_tokens"]) == (5, 7)


async def test_an_engine_that_cannot_say_what_it_has_cost_is_charged_by_what_came() -> None:
    seen = await streamed(GuardedEngine(says(*said("a ", "fentanyl", " patch", " b", " c")), [blocking()]))
    assert seen[-2]["usage"]["completion_tokens"] == 5  # with the role


async def test_a_match_at_the_very_end_has_the_engines_own_usage() -> None:
    inner = says(*said("a ", "fentanyl patch"), ended())
    seen = await streamed(GuardedEngine(inner, [blocking()]))
    assert text_of(seen) == "a " and choices_of(seen)[-1]["finish_reason"] == "content_filter"
    assert seen[-2]["usage"] == USAGE and inner.reckoned == []


async def test_of_several_choices_only_the_blocked_one_ends() -> None:
    one, two = said("a fentanyl patch", " x", "y"), said("all", " is", " well", index=1)
    inner = says(*(event for pair in zip(one, two, strict=False) for event in pair), ended())
    seen = await streamed(GuardedEngine(inner, [blocking()]), n=2)
    assert (text_of(seen), text_of(seen, 1)) == ("", "all is well")
    assert [choices_of(seen, at)[-1]["finish_reason"] for at in (0, 1)] == ["content_filter", "stop"]


@pytest.mark.parametrize("name", ["reasoning_content", "refusal", "future_field"])
async def test_every_text_of_a_delta_is_checked(name: str) -> None:
    items = [chunk({"index": 0, "delta": {name: piece}}) for piece in ("a fentanyl ", "patch ", "b")]
    seen = await streamed(GuardedEngine(says(*items, *said("x"), ended()), [blocking()]))
    assert choices_of(seen)[-1]["finish_reason"] == "content_filter" and "patch" not in json.dumps(seen)


async def test_tool_call_arguments_are_checked() -> None:
    def call(text: str) -> bytes:
        return chunk({"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}})

    seen = await streamed(
        GuardedEngine(says(call('{"drug": "fentan'), call('yl patch"}'), call(""), ended()), [blocking()])
    )
    assert "fentan" not in json.dumps(seen) and choices_of(seen)[-1]["finish_reason"] == "content_filter"


async def test_a_text_that_follows_another_does_not_wait_for_it() -> None:
    items = [chunk({"index": 0, "delta": {"reasoning_content": "maybe fentanyl"}}), *said("rest", finish=None)]
    inner = RecordingEngine(items=tuple(items), error=EngineFailed())
    blocks, seen = GuardedEngine(inner, [blocking()]).answer(a_request(stream=True)), b""
    with contextlib.suppress(EngineFailed):
        async for block in blocks:
            seen += block
    assert text_of(events(seen), name="reasoning_content") == "maybe fentanyl" and text_of(events(seen)) == "rest"


async def test_log_probabilities_wait_with_their_text() -> None:
    items = said("fentanyl ", "patch", logprobs={"content": [{"token": "fentanyl patch"}]})
    assert b"fentanyl" not in b"".join(
        [b async for b in GuardedEngine(says(*items[1:], ended()), [blocking()]).answer(a_request(stream=True))]
    )


async def test_text_completions_are_checked_too() -> None:
    items = [chunk({"index": 0, "text": text, "finish_reason": None}) for text in ("ok ", "fentanyl ", "patch ")]
    request = EngineRequest("completions", {"prompt": "hi"}, stream=True, request_id="r", cache_salt="")
    seen = events(b"".join([b async for b in GuardedEngine(says(*items, ended()), [blocking()]).answer(request)]))
    assert [choice["text"] for choice in choices_of(seen)] == ["ok ", ""]


async def test_what_cannot_be_read_does_not_pass() -> None:
    for item in (b"data: {broken\n\n", b'data: {"text": "x"}\n\n', b'data: {"choices": ["x"]}\n\n'):
        with pytest.raises(EngineFailed):
            await streamed(GuardedEngine(says(item, DONE), [blocking()]))
    with pytest.raises(EngineFailed):
        await answered(GuardedEngine(says(b"no json"), [blocking()]))


async def test_half_a_surrogate_does_not_break_an_answer() -> None:
    seen = await streamed(GuardedEngine(says(*said("a\ud800b ", "c"), ended()), [blocking(), PiiGuard("pii")]))
    assert text_of(seen) == "a\ud800b c"


async def test_decisions_are_told_once_for_each_guard_and_stage() -> None:
    told: list[tuple[str, str, str]] = []
    guards = [PiiGuard("pii"), blocking(), Blocklist("after", terms=["x"])]
    engine = GuardedEngine(says(*said("mail a@b.org ", "fentanyl patch ", "x")), guards, lambda *one: told.append(one))
    await streamed(engine)
    assert told == [
        ("pii", "prompt", "passed"),
        ("drugs", "prompt", "passed"),
        ("after", "prompt", "passed"),
        ("drugs", "answer", "blocked"),  # pii, which annotates, looks when an answer ends: this one was cut
        ("after", "answer", "passed"),
    ]
