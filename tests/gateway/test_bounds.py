"""What a caller may not send: too much of anything, told by the bound and without a word of the request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from serving.protocol import bounds
from serving.protocol.openai import ChatRequest, CompletionRequest, EmbeddingsRequest
from serving.protocol.responses.request import ResponsesRequest
from tests.conftest import OpenSite
from tests.local import RecordingEngine, chat, error_of

CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"
CANARY = "Zebulon19470231"
BODIES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    CHAT: (ChatRequest, chat()),
    COMPLETIONS: (CompletionRequest, {"model": "echo", "prompt": "x"}),
    EMBEDDINGS: (EmbeddingsRequest, {"model": "echo", "input": "x"}),
    RESPONSES: (ResponsesRequest, {"model": "echo", "input": "x"}),
}
_LISTS = b"[]," * (bounds.CONTAINERS + 1)


@pytest.mark.parametrize(
    ("most", "text"),
    [
        (bounds.CONTAINERS, b'{"messages": [' + _LISTS[:-1] + b"]}"),
        (bounds.CONTAINERS, b'{"messages": [' + b",".join([b"[" * 60 + b"]" * 60] * 1200) + b"]}"),
        (bounds.DEPTH, b'{"messages": ' + b"[" * 64 + b"]" * 64 + b"}"),
        (bounds.DEPTH, b'{"messages": ' + b'{"a":[' * 40 + b"]}" * 40 + b"}"),
        (bounds.VALUES, b'{"prompt": [' + b"1," * bounds.VALUES + b"1]}"),
        (bounds.STRINGS, b'{"stop": [' + b'"",' * bounds.STRINGS + b'""]}'),
        (bounds.STRINGS, b"{" + b'"a":1,' * bounds.STRINGS + b'"b":1}'),
        (bounds.FIELDS, json.dumps({str(number): 1 for number in range(129)}).encode()),
    ],
)
async def test_a_body_is_bounded_in_all_that_makes_work(site: OpenSite, most: int, text: bytes) -> None:
    engine = RecordingEngine()
    response = await site(engine).client().post(CHAT, content=text)
    assert str(most) in error_of(response, 400, "invalid_request")["message"] and not engine.asked


@pytest.mark.parametrize("text", ["[" * 70_000, '\\"[{' * 70_000, "\\\\", '"[[', ",\\n" * 600_000, "{}" * 70_000])
async def test_what_a_text_holds_is_not_counted(site: OpenSite, text: str) -> None:
    client = site(RecordingEngine()).client()
    assert (await client.post(CHAT, json=chat(text))).status_code == 200


@pytest.mark.parametrize("path", BODIES)
async def test_null_is_not_given_for_every_field(site: OpenSite, path: str) -> None:
    model, body = BODIES[path]
    client, needed = site().client(), {"model", "messages", "prompt", "input"}
    for field in (model.model_fields.keys() - needed) | {"metadata", "audio", "moderation", "prompt_embeds"}:
        response = await client.post(path, json=body | {field: None})
        assert response.status_code == 200, (field, response.text)


@pytest.mark.parametrize("path", BODIES)
async def test_every_number_is_bounded_and_its_field_named(site: OpenSite, path: str) -> None:
    model, body = BODIES[path]
    client = site().client()
    numbers = model.numbers
    for field in numbers:
        for value in (
            "true",
            "false",
            '"5"',
            "1e400",
            "-1e400",
            "9" * 4000,
            "1" + "0" * 25,
            "-" + "9" * 30,
            "[]",
            "{}",
        ):
            text = json.dumps(body)[:-1] + f', "{field}": {value}}}'
            response = await client.post(path, content=text)
            assert error_of(response, 400, "invalid_request")["param"] == field, (field, value[:9])
    assert len(numbers) > 0


@pytest.mark.parametrize("value", [2**40, 2**63, 2**70, -(2**70), 1e300, -1, 1.5])
async def test_responses_answer_400_for_what_no_engine_takes(site: OpenSite, value: float) -> None:
    response = await site().client().post(RESPONSES, json=BODIES[RESPONSES][1] | {"max_output_tokens": value})
    assert error_of(response, 400, "invalid_request")["param"] == "max_output_tokens"


@pytest.mark.parametrize("given", [[1, "a"], ["a", 1], [[1], 2], [[True]], [1.5], [None], [{}], [-1], [2**31], [[[1]]]])
async def test_a_prompt_of_several_kinds_is_refused(site: OpenSite, given: Any) -> None:
    client = site().client()
    for path, field in ((EMBEDDINGS, "input"), (COMPLETIONS, "prompt")):
        response = await client.post(path, json={"model": "echo", field: given})
        assert error_of(response, 400, "invalid_request")["param"] == field


async def test_a_number_in_a_schema_is_one_that_engines_can_read(site: OpenSite) -> None:
    client = site().client()
    for number in ("1" * 40, "1e999", "-1e999"):
        tool = {"type": "function", "function": {"name": "f", "parameters": {"maximum": 12345}}}
        text = json.dumps(chat(tools=[tool])).replace("12345", number)
        error = error_of(await client.post(CHAT, content=text), 400, "invalid_request")
        assert error["param"] == "tools" and number not in error["message"]


@pytest.mark.parametrize(
    "role", ["User", "SYSTEM", CANARY, "", "function ", "model", "ipython", " user", "developer\n"]
)
async def test_a_role_is_one_of_those_that_are_documented(site: OpenSite, role: str) -> None:
    client = site().client()
    messages = [{"role": "user", "content": "x"}, {"role": role, "content": "x"}]
    response = await client.post(CHAT, json=chat(messages=messages))
    assert error_of(response, 400, "invalid_request")["param"] == "messages[1].role" and CANARY not in response.text
    response = await client.post(RESPONSES, json={"model": "echo", "input": messages})
    assert error_of(response, 400, "invalid_request")["param"] == "input[1].role" and CANARY not in response.text


async def test_what_is_unknown_beside_a_text_is_dropped(site: OpenSite) -> None:
    engine = RecordingEngine()
    part = {"type": "text", "text": "hello", "role": "assistant", "annotations": [], "image_url": None}
    replayed = {"role": "assistant", "content": [part], "annotations": [], "audio": None, "name": None, "id": CANARY}
    assert (await site(engine).client().post(CHAT, json=chat(messages=[replayed]))).status_code == 200
    assert engine.asked[0].body["messages"] == [{"role": "assistant", "content": [{"type": "text", "text": "hello"}]}]


async def test_the_head_of_a_request_is_bounded(site: OpenSite) -> None:
    client = site().client()
    many = {f"x-{number}": "" for number in range(200)}
    error_of(await client.get("/v1/models", headers=many), 431, "headers_too_large")
    error_of(await client.get("/v1/models", headers={"x-a": "a" * 70_000}), 431, "headers_too_large")
    error_of(await client.get("/v1/files?" + "&".join(["limit=1"] * 65)), 414, "uri_too_long")
    error_of(await client.get("/v1/files?after=" + "a" * 9000), 414, "uri_too_long")
    error_of(await client.get("/v1/files/" + "a" * 3000), 414, "uri_too_long")
    assert error_of(await client.get("/v1/files/" + "a" * 300), 400, "invalid_request")["param"] == "file_id"


async def test_an_unknown_field_that_is_known_elsewhere_is_named(site: OpenSite) -> None:
    client = site().client()
    response = await client.post(RESPONSES, json=BODIES[RESPONSES][1] | {"max_tokens": 5})
    assert error_of(response, 400, "invalid_request")["param"] == "max_tokens"
    assert (await client.post(RESPONSES, json=BODIES[RESPONSES][1] | {"stop": ["x"], "ignore_eos": True})).is_success
