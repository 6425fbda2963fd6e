"""What a request of the Responses API means as a chat, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from serving.errors import ForbiddenField, InvalidRequest
from serving.protocol.responses.items import items_of, messages_of
from serving.protocol.responses.request import ResponsesRequest, chat_of

IMAGE = "data:image/png;base64,AAAA"


def chat(given: Any = "hello", before: list[dict[str, Any]] | None = None, **fields: Any) -> dict[str, Any]:
    request = ResponsesRequest(model="m", input=given, **fields)
    request.check()
    body: dict[str, Any] = chat_of(request, before or [], items_of(request.input)).model_dump(exclude_unset=True)
    return body


def messages(given: Any, **fields: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = chat(given, **fields)["messages"]
    return found


def message(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": list(parts)}


def test_a_text_is_a_users_message() -> None:
    assert chat("hello") == {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": False}


def test_each_field_has_its_place_in_a_chat() -> None:
    body = chat(
        max_output_tokens=9, temperature=0, top_p=0.5, reasoning={"effort": "low", "summary": "auto"}, user="u",
        service_tier="flex", seed=7, top_k=3, stream=True, include=["message.output_text.logprobs"], top_logprobs=2,
    )  # fmt: skip
    del body["messages"], body["model"]
    assert body == {
        "max_completion_tokens": 9,
        "temperature": 0,
        "top_p": 0.5,
        "reasoning_effort": "low",
        "user": "u",
        "service_tier": "flex",
        "seed": 7,
        "top_k": 3,
        "logprobs": True,
        "top_logprobs": 2,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_instructions_and_the_system_messages_that_follow_are_one_message() -> None:
    given = [message("developer", {"type": "input_text", "text": "b"}), {"role": "user", "content": "c"}]
    assert messages(given, instructions="a") == [
        {"role": "system", "content": "a\n\nb"},
        {"role": "user", "content": "c"},
    ]


def test_images_are_sent_inline_and_nothing_is_fetched() -> None:
    text, image = {"type": "input_text", "text": "what?"}, {"type": "input_image", "image_url": IMAGE, "detail": "low"}
    assert messages([message("user", text, image)])[0]["content"] == [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
    ]
    for bad in ({"image_url": "https://example.org/CANARY"}, {"file_id": "file-CANARY"}, {"image_url": {"url": IMAGE}}):
        with pytest.raises(ForbiddenField, match="nothing is fetched") as refused:
            messages([message("user", {"type": "input_image", **bad})])
        assert "CANARY" not in refused.value.message and refused.value.param == "input[0].content[0]"


def test_a_tools_round_trip_is_one_turn_of_the_assistant_and_the_tools_answers() -> None:
    given = [
        {"role": "user", "content": "weigh"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        message("assistant", {"type": "output_text", "text": "One moment.", "annotations": []}),
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weigh", "arguments": "{}", "status": "x"},
        {"type": "function_call", "call_id": "c2", "name": "ask", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "70 kg"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "no"}]},
    ]
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "weigh", "arguments": "{}"}},
        {"id": "c2", "type": "function", "function": {"name": "ask", "arguments": '{"a": 1}'}},
    ]
    assert messages(given) == [
        {"role": "user", "content": "weigh"},
        {"role": "assistant", "content": "One moment.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "70 kg"},
        {"role": "tool", "tool_call_id": "c2", "content": "no"},
    ]
    assert messages_of(given[3:4]) == [{"role": "assistant", "content": None, "tool_calls": calls[:1]}]


def test_functions_and_the_choice_among_them() -> None:
    weigh = {"type": "function", "name": "weigh", "parameters": {"type": "object"}, "strict": True}
    ask = {"type": "function", "name": "ask", "description": "Ask."}
    body = chat(tools=[weigh, ask], tool_choice={"type": "function", "name": "ask"}, parallel_tool_calls=False)
    assert body["tools"] == [
        {"type": "function", "function": {"name": "weigh", "parameters": {"type": "object"}, "strict": True}},
        {"type": "function", "function": {"name": "ask", "description": "Ask."}},
    ]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "ask"}}
    assert body["parallel_tool_calls"] is False
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "ask"}]}
    body = chat(tools=[weigh, ask], tool_choice=allowed)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["ask"] and body["tool_choice"] == "required"
    assert "tool_choice" not in chat(tool_choice="auto", parallel_tool_calls=True)


def test_the_formats_of_a_text() -> None:
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    assert chat(text={"format": schema, "verbosity": "low"})["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
    }
    assert chat(text={"format": {"type": "json_object"}})["response_format"] == {"type": "json_object"}
    assert "response_format" not in chat(text={"format": {"type": "text"}})


def test_what_was_said_before_comes_between_instructions_and_input() -> None:
    before = [{"role": "user", "content": "a"}, message("assistant", {"type": "output_text", "text": "b"})]
    assert [m["content"] for m in chat("c", before, instructions="i")["messages"]] == ["i", "a", "b", "c"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "mcp", "server_url": "CANARY"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format"),
        ({"given": [{"role": "CANARY", "content": "x"}]}, "input[0].role"),
        ({"given": [{"type": "CANARY"}]}, "input[0].type"),
        ({"given": [{"id": "msg_CANARY"}]}, "input[0].type"),
        ({"given": [{"role": "user", "content": 7}]}, "input[0].content"),
        ({"given": [message("user", {"type": "input_file", "file_id": "CANARY"})]}, "input[0].content[0].type"),
        ({"given": [message("user", {"type": "input_text"})]}, "input[0].content[0].text"),
        ({"given": [message("system", {"type": "input_image", "image_url": IMAGE})]}, "input[0].content"),
        ({"given": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"given": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": {}}]}, "input[0].arguments"),
        ({"given": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"conversation": "conv_CANARY"}, "conversation"),
        ({"prompt": {"id": "CANARY"}}, "prompt"),
        ({"chat_template": "CANARY"}, "chat_template"),
        ({"CANARY": 1}, None),
    ],
)
def test_what_cannot_be_is_refused_with_its_place_and_without_being_quoted(
    fields: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chat(**fields)
    assert refused.value.param == param and "CANARY" not in refused.value.message


@pytest.mark.parametrize("given", ["", [], None, 7, [7]])
def test_an_input_is_a_text_or_some_items(given: Any) -> None:
    with pytest.raises(ValidationError):
        ResponsesRequest(model="m", input=given)


def test_fields_that_change_nothing_here_are_accepted() -> None:
    fields = {"max_tool_calls": 3, "prompt_cache_key": "k", "safety_identifier": "s", "conversation": None}
    assert chat(**fields) == chat() == chat(truncation="auto", metadata={"a": "b"}, store=False, background=False)
