"""A chat's answer as a response: the same object, whether it came whole or in events."""

from __future__ import annotations

import copy
from typing import Any

import openai
import pytest
from openai._models import construct_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from serving.errors import EngineFailed
from serving.protocol.responses.answer import Telling, head_of, id_of, response_of
from serving.protocol.responses.request import ResponsesRequest

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}}
ID = "resp_00"
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
Tree = dict[str, Any]


def telling(**fields: Any) -> Telling:
    request = ResponsesRequest(model="m", input="x", **fields)
    return Telling(head_of(request, ID, 1700000000, stored=False), logprobs=request.logprobs)


def whole(message: Tree, finish: str = "stop", **fields: Any) -> Tree:
    told = telling(**fields)
    told.take({"choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": USAGE})
    told.end(1700000001)
    return told.response


def streamed(*deltas: Tree, finish: str = "stop", **fields: Any) -> tuple[list[Tree], Tree]:
    """The events, each as it was when it went out, and the response."""
    told = telling(**fields)
    events = copy.deepcopy(told.begin())
    for delta in ({"role": "assistant", "content": ""}, *deltas):
        events += copy.deepcopy(told.take({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}))
    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    events += copy.deepcopy(told.take(last) + told.take({"choices": [], "usage": USAGE}))
    events += copy.deepcopy(told.end(1700000001) + told.last())
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events, told.response


def call(index: int, id: str = "", name: str = "", arguments: str = "") -> Tree:
    named = {"id": id, "type": "function"} if id else {}
    return {"tool_calls": [{"index": index, **named, "function": {"name": name or None, "arguments": arguments}}]}


ANSWERS: dict[str, tuple[Tree, list[Tree]]] = {
    "text": ({"content": "one two"}, [{"content": "one "}, {"content": "two"}]),
    "nothing": ({"content": ""}, []),
    "refusal": ({"refusal": "I will not."}, [{"refusal": "I will "}, {"refusal": "not."}]),
    "reasoning": (
        {"reasoning": "hm, so", "content": "yes"},
        [{"reasoning": "hm, "}, {"reasoning": "so"}, {"content": "yes"}],
    ),
    "calls": (
        {
            "content": "Wait.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weigh", "arguments": '{"kg": 1}'}},
                {"id": "c2", "type": "function", "function": {"name": "ask", "arguments": "{}"}},
            ],
        },
        [
            {"content": "Wait."},
            call(0, "c1", "weigh"),
            call(0, arguments='{"kg": '),
            call(0, arguments="1}"),
            call(1, "c2", "ask", "{}"),
        ],
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_stream_comes_to_the_same_response_as_a_whole_answer(name: str) -> None:
    message, deltas = ANSWERS[name]
    events, response = streamed(*deltas)
    assert response == whole(message) and events[-1]["response"] == response
    assert (response["status"], events[-1]["type"]) == ("completed", "response.completed")


@pytest.mark.parametrize("name", ANSWERS)
def test_openais_own_accumulator_follows_the_events(name: str) -> None:
    events, response = streamed(*ANSWERS[name][1])
    state: ResponseStreamState[None] = ResponseStreamState(input_tools=[], text_format=openai.omit)
    told = [state.handle_event(construct_type(type_=ResponseStreamEvent, value=event))[0] for event in events]  # type: ignore[arg-type]
    assert [one.type for one in told] == [event["type"] for event in events]
    for event in events:  # strictly: with every field that OpenAI's schema asks for
        EVENT.validate_python(event)
    assert [item.type for item in Response.model_validate(response).output] == [o["type"] for o in response["output"]]


def test_the_events_of_a_text_and_a_call_are_openais_in_their_order() -> None:
    events, _ = streamed({"content": "hi"}, call(0, "c1", "weigh", "{}"))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created", "in_progress",
        "output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done",
        "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    assert events[2]["item"]["content"] == [] and events[3]["part"]["text"] == ""
    assert events[0]["response"]["output"] == [] and events[0]["response"]["status"] == "in_progress"


def test_usage_is_told_in_the_apis_own_names() -> None:
    assert whole({"content": "x"})["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 12,
    }


@pytest.mark.parametrize(("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")])
def test_an_answer_that_is_cut_is_incomplete_and_says_why(finish: str, reason: str) -> None:
    events, response = streamed({"content": "one"}, finish=finish)
    assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": reason})
    assert response["output"][0]["status"] == "incomplete" and response["completed_at"] is None
    assert events[-1]["type"] == "response.incomplete"
    assert whole({"content": ""}, finish)["output"] == []


def test_what_filters_found_is_told_as_azure_does() -> None:
    told = telling()
    safe, hate = {"hate": {"filtered": False}}, {"hate": {"filtered": True}}
    told.take({"choices": [], "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": safe}]})
    told.take({"choices": [{"delta": {}, "finish_reason": "content_filter", "content_filter_results": hate}]})
    told.end(1)
    found = told.response["content_filters"]
    assert [(one["source_type"], one["blocked"], one["content_filter_results"]) for one in found] == [
        ("prompt", False, safe),
        ("completion", True, hate),
    ]


def test_log_probabilities_are_told_to_those_who_ask() -> None:
    logprobs = {"content": [{"token": "hi", "logprob": -0.1, "bytes": None, "top_logprobs": []}]}
    for include, expected in ((["message.output_text.logprobs"], logprobs["content"]), (None, [])):
        told = telling(include=include)
        events = told.take({"choices": [{"delta": {"content": "hi"}, "logprobs": logprobs}]})
        told.end(1)
        assert events[-1]["logprobs"] == told.response["output"][0]["content"][0]["logprobs"] == expected


def test_a_stream_that_breaks_keeps_what_was_said_and_says_what_happened() -> None:
    told = telling()
    told.begin()
    told.take({"choices": [{"delta": {"content": "one"}}]})
    error, failed = told.fail(EngineFailed(), {"code": "engine_failed"}, 1)
    assert (error["type"], error["code"], failed["type"]) == ("error", "engine_failed", "response.failed")
    response = failed["response"]
    assert response["error"] == {"code": "server_error", "message": EngineFailed.default_message}
    assert response["output"][0]["content"][0]["text"] == "one" and response["status"] == "failed"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"choices": None},
        {"choices": [7]},
        {"choices": [{"delta": 7}]},
        {
            "choices": [
                {"delta": {"content": 7, "tool_calls": [7, {"function": 7}]}, "logprobs": 7, "finish_reason": []}
            ],
            "usage": 7,
        },
        {"choices": [{"index": 1, "delta": {"content": "another's"}}], "prompt_filter_results": [7]},
    ],
)
def test_what_is_no_answer_is_passed_over(answer: Tree) -> None:
    told = telling(include=["message.output_text.logprobs"])
    told.take(answer)
    told.end(1)
    assert told.response["status"] == "completed"


def bare(id: str, arguments: str, **more: Any) -> Tree:
    """A call as some engines send it, without an index."""
    return {"tool_calls": [{"id": id, "function": {"name": "f", "arguments": arguments}, **more}]}


CALLS: dict[str, tuple[list[Tree], list[tuple[str, str]]]] = {
    "one index for two ids": ([call(0, "c1", "f", "[1]"), call(0, "c2", "f", "{}")], [("c1", "[1]"), ("c2", "{}")]),
    "pieces by turns": (
        [call(0, "c1", "f", "["), call(1, "c2", "f", "{"), call(0, arguments="]"), call(1, arguments="}")],
        [("c1", "[]"), ("c2", "{}")],
    ),
    "its id in every piece": ([call(0, "c1", "f", "["), call(0, "c1", "", "]")], [("c1", "[]")]),
    "ids by turns at one index": (
        [call(0, "c1", "f", "["), call(0, "c2", "f", "{"), call(0, "c1", "", "]"), call(0, "c2", "", "}")],
        [("c1", "[]"), ("c2", "{}")],
    ),
    "no index": ([bare("c1", "[]"), bare("c2", "{}")], [("c1", "[]"), ("c2", "{}")]),
    "an index of no number": ([bare("c1", "[]", index="0"), bare("c2", "{}", index={})], [("c1", "[]"), ("c2", "{}")]),
    "text between": ([call(0, "c1", "f", "["), {"content": "so"}, call(0, arguments="]")], [("c1", "[]")]),
}  # fmt: skip


@pytest.mark.parametrize("form", CALLS)
def test_a_call_is_its_id_and_the_index_is_a_hint(form: str) -> None:
    deltas, expected = CALLS[form]
    events, response = streamed(*deltas, finish="tool_calls")
    calls = [item for item in response["output"] if item["type"] == "function_call"]
    assert [(item["call_id"], item["arguments"]) for item in calls] == expected
    added = [event["output_index"] for event in events if event["type"] == "response.output_item.added"]
    done = {event["output_index"]: event["item"] for event in events if event["type"] == "response.output_item.done"}
    assert added == sorted(done) and [done[index] for index in sorted(done)] == response["output"]


def test_two_calls_of_a_whole_answer_with_one_id_are_two() -> None:
    twice = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}] * 2
    output = whole({"tool_calls": twice}, finish="tool_calls")["output"]
    assert [item["arguments"] for item in output] == ["{}", "{}"]


def test_an_items_id_tells_its_response() -> None:
    assert response_of(id_of("msg", ID, "o0")) == ID
    assert response_of("") == response_of("nonsense") == "resp_"
