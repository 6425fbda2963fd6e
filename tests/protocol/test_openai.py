"""The shape of requests: depth, prompts, names, messages."""

from __future__ import annotations

from typing import Any

import pytest

from serving.errors import ForbiddenField, InvalidRequest
from serving.protocol.messages import check_messages
from serving.protocol.openai import (
    FORBIDDEN,
    IGNORED,
    ChatRequest,
    CompletionRequest,
    check_names,
    depth_of,
    schemas_of,
)


@pytest.mark.parametrize(
    ("value", "depth"),
    [
        (1, 0), ("text", 0), (None, 0), ([], 1), ({}, 1), ([1, 2], 1), ({"a": []}, 2), ([[], [[]]], 3),
        ({"a": 1, "b": {"c": [1, {"d": 2}]}}, 4),
    ],
)  # fmt: skip
def test_depth_counts_lists_and_objects_and_not_what_is_in_them(value: object, depth: int) -> None:
    assert depth_of(value) == depth


def test_depth_is_not_bounded_by_pythons_stack() -> None:
    value: Any = []
    for _ in range(20_000):
        value = [value]
    assert depth_of(value) == 20_001


@pytest.mark.parametrize(
    ("prompt", "count"),
    [("text", 1), (["a"], 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1], [2, 3], [4]], 3), ("", 1)],
)
def test_prompts_are_counted_as_the_engine_will(prompt: Any, count: int) -> None:
    assert CompletionRequest(prompt=prompt).prompts == count


def test_a_chat_is_one_prompt() -> None:
    assert ChatRequest(messages=[{"role": "user"}] * 5).prompts == 1


def test_usage_is_wanted_by_who_asks_for_it() -> None:
    messages = [{"role": "user"}]
    assert not ChatRequest(messages=messages).wants_usage
    assert not ChatRequest(messages=messages, stream_options={}).wants_usage
    assert ChatRequest(messages=messages, stream_options={"include_usage": True, "x": 1}).wants_usage


def test_no_name_is_both_known_and_forbidden_or_ignored_but_the_one_with_a_list_of_its_own() -> None:
    known = ChatRequest.model_fields.keys() | CompletionRequest.model_fields.keys()
    assert known & FORBIDDEN.keys() == {"chat_template_kwargs"}
    assert not known & IGNORED and not IGNORED & FORBIDDEN.keys()


def test_a_forbidden_name_is_told_before_an_unknown_one() -> None:
    with pytest.raises(ForbiddenField, match="'cache_salt' is not allowed: the server sets it"):
        check_names({"CANARY": 1, "cache_salt": 1, "store": True})
    with pytest.raises(InvalidRequest, match="unknown here"):
        check_names({"store": True, "CANARY": 1})
    check_names(dict.fromkeys(IGNORED))


GOOD: list[dict[str, Any]] = [
    {"role": "user", "content": "text"},
    {"role": "user", "content": ["text", {"type": "text", "text": "a"}, {"type": "refusal", "refusal": "a"}]},
    {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]},
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]},
    {"role": "assistant", "content": None, "tool_calls": []},
    {"role": "tool", "content": "", "tool_call_id": "1"},
]


@pytest.mark.parametrize("message", GOOD)
def test_the_messages_of_openais_reference_pass(message: dict[str, Any]) -> None:
    check_messages([message])


@pytest.mark.parametrize(
    ("part", "error"),
    [
        ({"type": "image_embeds", "image_embeds": "CANARY"}, InvalidRequest),
        ({"type": "CANARY"}, InvalidRequest),
        ({"text": "no type"}, InvalidRequest),
        ({"type": ["text"]}, InvalidRequest),
        (5, InvalidRequest),
        (None, InvalidRequest),
        ({"type": "image_url", "image_url": {"url": "data:,"}, "uuid": "CANARY"}, ForbiddenField),
        ({"type": "image_url", "image_url": "https://CANARY"}, ForbiddenField),
        ({"type": "image_url", "image_url": {"url": "DATA:text"}}, ForbiddenField),
        ({"type": "video_url"}, ForbiddenField),
    ],
)
def test_a_part_that_is_not_content_is_refused_by_its_place(part: object, error: type[InvalidRequest]) -> None:
    with pytest.raises(error, match=r"^messages\[1\]\.content\[0\]") as refused:
        check_messages([{"role": "user", "content": "text"}, {"role": "user", "content": [part]}])
    assert "CANARY" not in refused.value.message and type(refused.value) is error


def test_each_schema_is_found_with_its_place() -> None:
    tools = [{"type": "function", "function": {"name": n}} for n in "ab"]
    request = ChatRequest(messages=[{"role": "user"}], tools=tools, response_format={"type": "json_object"})
    assert [placed.place for placed, _ in schemas_of(request)] == ["response_format", "tools[0]", "tools[1]"]
    assert schemas_of(CompletionRequest(prompt="x")) == []


@pytest.mark.parametrize("kind", ["structural_tag", "regex", None, 5, ["text"]])
def test_a_format_that_is_not_openais_is_refused(kind: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"response_format\.type must be"):
        schemas_of(CompletionRequest(prompt="x", response_format={"type": kind}))
