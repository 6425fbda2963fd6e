"""What one request may ask of a deployment, and what the engine gets of it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from serving.engines.engine import EngineRequest
from serving.errors import DeploymentNotAllowed, InvalidRequest, UnknownDeployment
from serving.gateway.catalog import Catalog, Deployment, RequestLimits
from serving.protocol.openai import ChatRequest, CompletionRequest
from serving.tenants.callers import Caller
from tests.local import RecordingEngine, Tree, chat

CALLER = Caller(tenant="ward", key_id="k", key_name="tests")

LIMITS = RequestLimits(max_tokens=100)
NESTED = 30


def tidy(request: ChatRequest | CompletionRequest, limits: RequestLimits = LIMITS) -> EngineRequest:
    deployment = Deployment(name="echo", engine=RecordingEngine(), limits=limits)
    return deployment.tidy(request, request_id="req_1", cache_salt="salt")


def nested(depth: int) -> Tree:
    schema: Tree = {}
    for _ in range(depth - 1):
        schema = {"a": schema}
    return schema


def tool(parameters: Tree) -> Tree:
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


def schema_format(schema: Tree) -> Tree:
    return {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}


@pytest.mark.parametrize(
    ("field", "most"),
    [
        ("n", 8), ("max_tokens", 100), ("max_completion_tokens", 100), ("top_logprobs", 20), ("prompt_logprobs", 20),
        ("stop", ["x"] * 16), ("tools", [tool({})] * 128),
    ],
)  # fmt: skip
def test_a_chat_may_ask_for_as_much_as_the_limit_and_no_more(field: str, most: Any) -> None:
    assert tidy(ChatRequest(**chat(**{field: most}))).body[field] == most
    more: Any = most + most[:1] if isinstance(most, list) else most + 1
    with pytest.raises(InvalidRequest, match=f"'{field}' asks for .* the deployment 'echo' allows") as refused:
        tidy(ChatRequest(**chat(**{field: more})))
    assert refused.value.param == field


@pytest.mark.parametrize(("field", "most"), [("n", 8), ("logprobs", 20), ("prompt", ["x"] * 32)])
def test_so_may_a_completion(field: str, most: Any) -> None:
    body = {"model": "echo", "prompt": "x"}
    assert tidy(CompletionRequest(**body | {field: most})).body[field] == most
    more = most + most[:1] if isinstance(most, list) else most + 1
    with pytest.raises(InvalidRequest, match=f"'{field}' asks for"):
        tidy(CompletionRequest(**body | {field: more}))


def test_a_limit_of_zero_switches_a_feature_off() -> None:
    limits = RequestLimits(max_tools=0, max_stop=0, max_logprobs=0)
    asked: list[Tree] = [{"tools": [tool({})]}, {"stop": ["x"]}, {"top_logprobs": 1}, {"prompt_logprobs": 1}]
    for fields in asked:
        with pytest.raises(InvalidRequest, match="allows 0"):
            tidy(ChatRequest(**chat(**fields)), limits)


@pytest.mark.parametrize(
    "fields", [{"response_format": schema_format(nested(NESTED))}, {"tools": [tool({}), tool(nested(NESTED))]}]
)
def test_a_schema_that_is_too_deep_is_refused_by_its_place(fields: Tree) -> None:
    with pytest.raises(InvalidRequest, match=r"too large: \d+ bytes, 3\d levels; allowed are 65536 bytes, 24 levels"):
        tidy(ChatRequest(**chat(**fields)))
    assert (
        tidy(ChatRequest(**chat(**fields)), RequestLimits(max_schema_depth=NESTED + 2)).body.items() >= fields.items()
    )


def test_a_schema_that_is_too_long_is_refused() -> None:
    fields: Tree = {"response_format": schema_format({"enum": ["x" * 2**16]})}
    with pytest.raises(InvalidRequest, match="too large"):
        tidy(ChatRequest(**chat(**fields)))


def test_the_deepest_json_that_can_be_read_is_refused_and_breaks_nothing() -> None:
    with pytest.raises(InvalidRequest, match="too large"):
        tidy(ChatRequest(**chat(response_format=schema_format(nested(190)))))


def test_a_template_argument_outside_the_list_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="may only hold enable_thinking"):
        tidy(ChatRequest(**chat(chat_template_kwargs={"enable_thinking": True, "tokenize": False})))


def test_the_engine_is_told_the_operation_and_whether_to_stream() -> None:
    request = tidy(ChatRequest(**chat(stream=True)))
    assert (request.operation, request.stream, request.request_id, request.cache_salt) == (
        "chat", True, "req_1", "salt",
    )  # fmt: skip
    assert tidy(CompletionRequest(prompt="x")).operation == "completions"


def test_only_a_stream_has_stream_options_and_they_always_ask_for_usage() -> None:
    options = {"include_usage": False}
    streamed = tidy(ChatRequest(**chat(stream=True, stream_options=options))).body
    assert streamed["stream_options"] == {"include_usage": True}
    assert "stream_options" not in tidy(ChatRequest(**chat(stream=False, stream_options=options))).body


def test_without_a_limit_the_engine_decides_how_long_an_answer_is() -> None:
    assert "max_tokens" not in tidy(ChatRequest(**chat()), RequestLimits()).body


LEAF = st.none() | st.booleans() | st.integers(-2, 40) | st.sampled_from([0.5, 1e999, "", "text", "image_url", "user"])
JSON = LEAF | st.lists(LEAF, max_size=2) | st.dictionaries(st.sampled_from(["type", "url", "text"]), LEAF, max_size=2)
PART = st.fixed_dictionaries({}, optional={"type": JSON, "text": JSON, "image_url": JSON})
MESSAGE = st.fixed_dictionaries({"role": st.just("user"), "content": st.lists(PART)})
FIELDS = {name: JSON for name in ChatRequest.model_fields} | {"tools": st.lists(PART), "response_format": PART}


@given(st.lists(MESSAGE, max_size=2), st.fixed_dictionaries({}, optional=FIELDS))
def test_whatever_its_values_a_request_is_either_tidied_or_refused(messages: list[Tree], fields: Tree) -> None:
    for body in ({"messages": messages}, chat(**fields)):
        with contextlib.suppress(ValidationError, InvalidRequest):
            tidy(ChatRequest.model_validate(body))


def test_a_name_is_found_and_an_unknown_one_gets_the_nearest() -> None:
    names = ("clinical-demo", "echo")
    catalog = Catalog((Deployment(n, RecordingEngine(), LIMITS) for n in names), created=1)
    assert catalog.resolve("echo", CALLER).name == "echo" and [d.name for d in catalog] == list(names)
    with pytest.raises(UnknownDeployment, match="Did you mean 'clinical-demo'"):
        catalog.resolve("clinical_demo", CALLER)
    with pytest.raises(UnknownDeployment, match=r"of this name\. GET"):
        catalog.resolve("", CALLER)
    with pytest.raises(InvalidRequest, match="'model' is missing"):
        catalog.resolve(None, CALLER)


def test_a_key_for_some_deployments_sees_and_calls_only_those() -> None:
    catalog = Catalog((Deployment(n, RecordingEngine(), LIMITS) for n in ("radiology", "oncology")), created=1)
    bound = replace(CALLER, deployments=frozenset({"oncology"}))
    assert [d.name for d in catalog.open_to(bound)] == ["oncology"]
    assert catalog.resolve("oncology", bound).name == "oncology"
    with pytest.raises(DeploymentNotAllowed, match="may not call the deployment 'radiology'"):
        catalog.resolve("radiology", bound)
    with pytest.raises(UnknownDeployment, match=r"of this name\. GET"):  # no hint at what it may not call
        catalog.resolve("radiologie", bound)


@pytest.mark.parametrize(
    ("fields", "answers"),
    [
        ({"max_tokens": 50}, 50),
        ({"max_completion_tokens": 60}, 60),
        ({"max_tokens": 50, "n": 3}, 150),
        ({}, 100),  # the deployment's own largest answer
    ],
)
def test_a_request_reserves_its_prompt_and_its_answers_allowance(fields: Tree, answers: int) -> None:
    deployment = Deployment(name="echo", engine=RecordingEngine(), limits=LIMITS)
    request = tidy(ChatRequest.model_validate(chat("one two", **fields)))
    assert deployment.tokens_of(request) == deployment.estimate.prompt(request.body) + answers


def test_each_of_several_prompts_reserves_an_answer() -> None:
    deployment = Deployment(name="echo", engine=RecordingEngine(), limits=LIMITS)
    for prompt, prompts in (("a", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2)):
        request = tidy(CompletionRequest.model_validate({"prompt": prompt, "max_tokens": 10, "n": 2}))
        assert deployment.tokens_of(request) - deployment.estimate.prompt(request.body) == 20 * prompts
