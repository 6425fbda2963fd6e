"""What the echo engine can do beyond echoing: embeddings, tools, JSON by a schema, log probabilities of prompts."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

import jsonschema
import pytest

from serving.engines.echo import EchoEngine, PlannedFailure
from serving.engines.echo.schemas import sample_of
from serving.engines.engine import EngineRequest, Operation
from serving.errors import ContextTooLong, EngineUnavailable, InvalidRequest
from tests.local import Tree, chat, events, text_of

WEATHER: Tree = {
    "type": "object",
    "properties": {"city": {"type": "string", "default": "Oslo"}, "days": {"type": "integer", "minimum": 2}},
    "required": ["city"],
}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": schema}}
    for name, schema in (("get_weather", WEATHER), ("get_time", {}))
]
FORCED = {"type": "function", "function": {"name": "get_time"}}


async def raw(operation: Operation, body: Tree, **options: Any) -> bytes:
    request = EngineRequest(operation, body, bool(body.get("stream")), "req_1", "")
    return b"".join([item async for item in EchoEngine(**options).answer(request)])


async def ask(operation: Operation, **body: Any) -> Any:
    return json.loads(await raw(operation, body))


async def vectors(given: Any, **fields: Any) -> list[Any]:
    return [one["embedding"] for one in (await ask("embeddings", input=given, **fields))["data"]]


async def test_equal_texts_have_equal_vectors_of_length_one_and_others_do_not() -> None:
    first, second, third = await vectors(["fever", "fever", "cough"])
    assert first == second != third and len(first) == 64
    assert math.isclose(sum(value * value for value in third), 1)


async def test_base64_is_the_same_vector_in_little_endian_floats() -> None:
    ((vector,), (packed,)) = (
        await vectors("x", dimensions=8),
        await vectors("x", dimensions=8, encoding_format="base64"),
    )
    assert struct.unpack("<8f", base64.b64decode(packed)) == pytest.approx(vector)


async def test_fewer_dimensions_are_the_first_of_more() -> None:
    ((small,), (large,)) = await vectors("x", dimensions=4), await vectors("x", dimensions=8)
    assert [value * large[0] / small[0] for value in small] == pytest.approx(large[:4])


@pytest.mark.parametrize(
    ("given", "tokens"), [("a b", [2]), (["a b", "c"], [2, 1]), ([1, 2], [2]), ([[1, 2], [3]], [2, 1])]
)
async def test_texts_and_token_ids_are_both_embedded(given: Any, tokens: list[int]) -> None:
    answer = await ask("embeddings", input=given)
    assert len(answer["data"]) == len(tokens)
    assert answer["usage"] == {"prompt_tokens": sum(tokens), "total_tokens": sum(tokens)}


async def test_an_embedding_fails_as_planned_or_when_it_does_not_fit() -> None:
    with pytest.raises(EngineUnavailable):
        await raw("embeddings", {"input": ["x", "DIE"]}, failures=[PlannedFailure("DIE", "die", after=2)])
    with pytest.raises(ContextTooLong) as failed:
        await raw("embeddings", {"input": ["a b c"]}, max_model_len=2)
    assert failed.value.param == "input"
    with pytest.raises(InvalidRequest):
        await raw("embeddings", {"input": "x", "dimensions": 65536})


CALLS = [
    ({"tool_choice": "required"}, "get_weather", {"city": "Oslo", "days": 2}),
    ({"tool_choice": FORCED}, "get_time", {}),
]


@pytest.mark.parametrize(("fields", "name", "arguments"), [*CALLS, ({}, "get_time", {})])
async def test_a_tool_is_called_when_it_must_be_or_is_named(fields: Tree, name: str, arguments: Tree) -> None:
    text = "hello" if fields else "please get_time now"
    (choice,) = (await ask("chat", **chat(text, tools=TOOLS, **fields)))["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert (choice["finish_reason"], choice["message"]["content"], call["type"]) == ("tool_calls", None, "function")
    assert call["function"]["name"] == name and json.loads(call["function"]["arguments"]) == arguments


async def test_a_call_streams_its_name_first_and_its_arguments_in_pieces() -> None:
    body = chat("hello", tools=TOOLS, tool_choice="required", stream=True)
    *chunks, _, _ = events(await raw("chat", body))
    first, *rest = [one for chunk in chunks for one in chunk["choices"][0]["delta"].get("tool_calls", [])]
    assert first["id"] and first["function"] == {"name": "get_weather", "arguments": ""}
    assert len(rest) > 1 and all(piece["index"] == 0 for piece in rest)
    assert json.loads("".join(piece["function"]["arguments"] for piece in rest)) == {"city": "Oslo", "days": 2}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("fields", [{}, {"tool_choice": "none"}])
async def test_without_a_reason_no_tool_is_called(fields: Tree) -> None:
    text = "hello" if not fields else "get_time"
    (choice,) = (await ask("chat", **chat(text, tools=TOOLS, **fields)))["choices"]
    assert choice["message"] == {"role": "assistant", "content": text}


async def test_a_tools_own_answer_is_told_and_not_called_again() -> None:
    body = chat(tools=TOOLS)
    body["messages"].append({"role": "tool", "tool_call_id": "x", "content": "get_time says noon"})
    (choice,) = (await ask("chat", **body))["choices"]
    assert choice["message"]["content"] == "get_time says noon"


SCHEMAS: list[Tree] = [
    WEATHER, {"type": "array", "items": {"type": "number"}, "minItems": 2}, {"enum": ["b", "a"]}, {"const": 5},
    {"type": ["string", "null"], "minLength": 9}, {"type": "integer", "maximum": -3},
    {"type": "number", "minimum": 0.5},
    {"anyOf": [{"type": "null"}, {"type": "string"}]}, {"type": "boolean"}, {"type": "string", "maxLength": 2},
    {"allOf": [{"properties": {"a": {"type": "null"}}}, {"properties": {"b": {"type": "boolean"}}}], "type": "object"},
    {"$defs": {"N": {"type": "null"}}, "type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}, "required": ["n"]},
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS)
@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_by_a_schema_fits_it(schema: Tree, stream: bool) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    answer = await raw("chat", chat("hello", response_format=form, stream=stream))
    text = text_of(events(answer)) if stream else json.loads(answer)["choices"][0]["message"]["content"]
    jsonschema.validate(json.loads(text), schema)


async def test_json_without_a_schema_is_an_object() -> None:
    (choice,) = (await ask("chat", **chat("a b", response_format={"type": "json_object"})))["choices"]
    assert json.loads(choice["message"]["content"]) == {"echo": "a b"}


@pytest.mark.parametrize("schema", [None, [], "x", {"$ref": "#"}, {"$ref": "#/$defs/none"}, {"type": "nonsense"}])
def test_what_is_no_schema_gives_null_and_recursion_ends(schema: Any) -> None:
    assert sample_of(schema) is None


async def completed(**fields: Any) -> Tree:
    (choice,) = (await ask("completions", **fields))["choices"]
    return dict(choice)


@pytest.mark.parametrize("most", [0, 1, 5])
async def test_an_echoed_prompt_has_log_probabilities_but_for_its_first_token(most: int) -> None:
    choice = await completed(prompt="one two three", echo=True, logprobs=most, max_tokens=1)
    lists = choice["logprobs"]
    assert lists["tokens"] == ["one", " two", " three", " one"] and "".join(lists["tokens"]) == choice["text"]
    assert lists["text_offset"] == [0, 3, 7, 13]
    assert lists["token_logprobs"][0] is None and lists["top_logprobs"][0] is None
    for token, logprob, top in list(zip(lists["tokens"], lists["token_logprobs"], lists["top_logprobs"], strict=True))[
        1:
    ]:
        assert logprob < 0 and top[token] == logprob == max(top.values()) and len(top) == max(1, most)


async def test_with_no_token_to_make_only_the_prompt_comes_back() -> None:
    choice = await completed(prompt="one two", echo=True, logprobs=1, max_tokens=0)
    assert (choice["text"], choice["finish_reason"]) == ("one two", "length")
    assert len(choice["logprobs"]["tokens"]) == 2
    answer = await ask("completions", prompt="one two", max_tokens=0)
    assert answer["choices"][0]["text"] == "" and answer["usage"]["completion_tokens"] == 0


async def test_each_prompt_has_its_choices_in_order() -> None:
    answer = await ask("completions", prompt=["a b", "c"], n=2)
    assert [(one["index"], one["text"]) for one in answer["choices"]] == [(0, "a b"), (1, "a b"), (2, "c"), (3, "c")]
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}


@pytest.mark.parametrize("prompt", ["a  b\nc ", [5, 6], ["a b c", "d"], [[1], [2, 3]]])
async def test_a_stream_adds_up_to_the_whole_answer(prompt: Any) -> None:
    fields = {"prompt": prompt, "echo": True, "logprobs": 2, "n": 2}
    whole = await ask("completions", **fields)
    *chunks, last, _ = events(await raw("completions", fields | {"stream": True}))
    for choice in whole["choices"]:
        mine = [one for chunk in chunks for one in chunk["choices"] if one["index"] == choice["index"]]
        assert "".join(one["text"] for one in mine) == choice["text"]
        assert mine[-1]["finish_reason"] == choice["finish_reason"]
        for name, values in choice["logprobs"].items():
            assert [value for one in mine if one["logprobs"] for value in one["logprobs"][name]] == values
    assert last["usage"] == whole["usage"]


async def test_a_chat_tells_log_probabilities_when_asked() -> None:
    (choice,) = (await ask("chat", **chat("a b", logprobs=True, top_logprobs=2)))["choices"]
    assert [(one["token"], len(one["top_logprobs"])) for one in choice["logprobs"]["content"]] == [("a", 2), (" b", 2)]


async def test_two_million_line_feeds_are_a_prompt_without_a_word() -> None:
    answer = await ask("chat", **chat("\n" * 2_000_000))
    assert (answer["choices"][0]["message"]["content"], answer["usage"]["prompt_tokens"]) == ("(nothing)", 1)


async def test_megabytes_of_words_are_too_long() -> None:
    with pytest.raises(ContextTooLong) as refused:
        await ask("chat", **chat("a " * 2_000_000))
    assert refused.value.param == "messages"
    with pytest.raises(ContextTooLong):
        await ask("embeddings", input=["a " * 2_000_000])
