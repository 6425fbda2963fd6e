"""/v1/responses as users of the openai package see it, on the echo engine; nothing is kept."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from serving.engines.echo import EchoEngine
from serving.guards.blocklist import Blocklist
from serving.guards.guard import BOTH, Stage
from serving.guards.guarded import GuardedEngine
from tests.local import RecordingEngine, eventually
from tests.responses.conftest import OpenPlace

WEIGH: Any = {
    "type": "function",
    "name": "weigh",
    "parameters": {"type": "object", "properties": {"unit": {"enum": ["kg"]}}, "required": ["unit"]},
    "strict": True,
}


LARGE = {"type": "json_schema", "name": "n", "schema": {"description": "b" * 70000}}


class Finding(BaseModel):
    allergic: bool
    severity: Literal["mild", "severe"]


async def test_an_input_is_answered_and_charged_as_a_chat(place: OpenPlace) -> None:
    here = place()
    response = await here.client().responses.create(model="echo", input="one two three", metadata={"study": "a"})
    assert (response.output_text, response.status, response.model) == ("one two three", "completed", "echo")
    assert response.metadata == {"study": "a"} and response.id.startswith("resp_") and response.usage
    line = here.site.log()[-1]
    assert (line["route"], line["outcome"]) == ("/v1/responses", "ok")
    spent = (response.usage.input_tokens, response.usage.output_tokens)
    assert (line["prompt_tokens"], line["completion_tokens"]) == spent == (3, 3)
    assert response._request_id == line["request_id"]


async def test_instructions_and_a_conversation_in_the_input_reach_the_engine_as_messages(place: OpenPlace) -> None:
    engine = RecordingEngine()
    client = place(engine).client()
    talk: Any = [{"role": role, "content": text} for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"))]
    await client.responses.create(model="echo", input=talk, instructions="Be brief.", max_output_tokens=50)
    body = engine.asked[0].body
    assert [m["content"] for m in body["messages"]] == ["Be brief.", "a", "b", "c"]
    assert body["max_completion_tokens"] == 50 and engine.asked[0].cache_salt


async def test_a_stream_says_the_same_with_its_events_named(place: OpenPlace) -> None:
    here = place()
    stream = await here.client().responses.create(model="echo", input="one two", stream=True)
    events = [event async for event in stream]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "one two"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.completed" and last.response.output_text == "one two" and last.response.usage
    await eventually(lambda: here.site.log()[-1]["completion_tokens"] == last.response.usage.output_tokens == 2)
    raw = await here.site.client().post("/v1/responses", json={"model": "echo", "input": "x", "stream": True})
    names = [line[7:] for line in raw.text.splitlines() if line.startswith("event: ")]
    types = [json.loads(line[6:])["type"] for line in raw.text.splitlines() if line.startswith("data: ")]
    assert names == types and names[0] == "response.created" and "[DONE]" not in raw.text


async def test_the_sdks_own_stream_helper_follows(place: OpenPlace) -> None:
    async with place().client().responses.stream(model="echo", input="one two", text_format=openai.omit) as stream:
        seen = [event.snapshot async for event in stream if event.type == "response.output_text.delta"]
        assert seen == ["one", "one two"] and (await stream.get_final_response()).output_text == "one two"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_function_is_called_answered_and_used(place: OpenPlace, stream: bool) -> None:
    client = place().client()
    items: Any = [{"role": "user", "content": "please weigh the patient"}]
    async with client.responses.stream(model="echo", input=items, tools=[WEIGH]) as streamed:
        response: Any = await streamed.get_final_response()
    if not stream:
        response = await client.responses.create(model="echo", input=items, tools=[WEIGH])
    [call] = response.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "weigh", {"unit": "kg"})
    items += [item.model_dump(exclude={"parsed_arguments"}) for item in response.output]
    items.append({"type": "function_call_output", "call_id": call.call_id, "output": "70 kg"})
    answer = await client.responses.create(model="echo", input=items, tools=[WEIGH])
    assert answer.output_text == "70 kg"


async def test_structured_output_is_parsed(place: OpenPlace) -> None:
    client = place().client()
    parsed = await client.responses.parse(model="echo", input="Any allergies?", text_format=Finding)
    assert isinstance(parsed.output_parsed, Finding)
    async with client.responses.stream(model="echo", input="Any allergies?", text_format=Finding) as stream:
        assert (await stream.get_final_response()).output_parsed == parsed.output_parsed


async def test_an_answer_that_is_too_long_is_incomplete(place: OpenPlace) -> None:
    response = await place().client().responses.create(model="echo", input="one two three", max_output_tokens=2)
    assert response.status == "incomplete" and response.incomplete_details
    assert (response.incomplete_details.reason, response.output_text) == ("max_output_tokens", "one two")


async def test_log_probabilities_and_the_service_tier_are_told_to_those_who_ask(place: OpenPlace) -> None:
    response: Any = (
        await place()
        .client()
        .responses.create(
            model="echo", input="hi", include=["message.output_text.logprobs"], top_logprobs=2, service_tier="flex"
        )
    )
    [token] = response.output[0].content[0].logprobs
    assert token.token == "hi" and len(token.top_logprobs) == 2 and response.service_tier == "flex"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_one_deployment_cannot_take_another_answers(place: OpenPlace, stream: bool) -> None:
    engine = {"kind": "echo", "failures": [{"action": "refuse"}]}
    full = {"name": "full", "engine": engine, "spill_to": "spare"}
    here = place(deployments=[full, {"name": "spare", "engine": {"kind": "echo"}}])
    asked = await here.site.client().post("/v1/responses", json={"model": "full", "input": "hello", "stream": stream})
    assert asked.headers["x-ms-deployment-name"] == "spare"
    assert "hello" in asked.text and '"model":"full"' in asked.text
    assert asked.text.count("response.created") == 2 * stream  # the event's name, and its type


async def test_azures_client_finds_it_on_both_of_its_paths(place: OpenPlace) -> None:
    here = place()
    assert (await here.azure().responses.create(model="echo", input="hello")).output_text == "hello"
    stream = await here.azure().responses.create(model="echo", input="hello", stream=True)
    assert [event.type async for event in stream][-1] == "response.completed"
    for path, status in (("/openai/v1/responses", 200), ("/openai/responses", 404)):
        asked = await here.site.client().post(path, json={"model": "echo", "input": "x"})
        assert asked.status_code == status
    with pytest.raises(openai.NotFoundError, match="deployment for this resource does not exist"):
        await here.azure().responses.create(model="ecko", input="hello")


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "do not exist here"),
        ({"conversation": "conv_1"}, "conversation", "previous_response_id"),
        ({"nonsense": 1}, None, "unknown"),
        ({"max_output_tokens": 5000}, "max_output_tokens", "'max_output_tokens' asks for 5000"),
        ({"text": {"format": LARGE}}, "text.format", "large"),
        ({"input": "pain " * 5000}, "input", "maximum context length"),
        ({"temperature": 7}, "temperature", "temperature"),
        ({"include": ["CANARY"]}, "include", "include"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_be_is_a_bad_request_of_the_fields_that_were_sent(
    place: OpenPlace, stream: bool, fields: dict[str, Any], param: str | None, says: str
) -> None:
    here = place(limits={"max_tokens": 4000})
    given: Any = {"input": "x"} | fields
    with pytest.raises(openai.BadRequestError, match=says) as refused:
        await here.client().responses.create(model="echo", input=given.pop("input"), stream=stream, extra_body=given)
    assert refused.value.param == param and "CANARY" not in str(refused.value.body)


async def test_who_may_not_call_the_deployment_may_not_here(place: OpenPlace) -> None:
    here = place()
    with pytest.raises(openai.PermissionDeniedError):
        await here.client("auditor").responses.create(model="echo", input="x")
    with pytest.raises(openai.NotFoundError) as refused:
        await here.client().responses.create(model="ecko", input="x")
    assert refused.value.code == "model_not_found"


def guarded(place: OpenPlace, stages: frozenset[Stage] = BOTH) -> Any:
    return place(GuardedEngine(EchoEngine(), [Blocklist("drugs", terms=["fentanyl patch"], stages=stages)]))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_blocked_prompt_is_refused_in_azures_way(place: OpenPlace, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await guarded(place).azure().responses.create(model="echo", input="a fentanyl patch", stream=stream)
    body: Any = refused.value.body
    assert (refused.value.code, body["innererror"]["code"]) == ("content_filter", "ResponsibleAIPolicyViolation")


async def test_a_blocked_answer_is_incomplete_with_what_was_found(place: OpenPlace) -> None:
    client = guarded(place, frozenset({"answer"})).azure()
    text = "take a fentanyl patch now"
    whole: Any = await client.responses.create(model="echo", input=text)
    *_, last = [event async for event in await client.responses.create(model="echo", input=text, stream=True)]
    for response in (whole, last.response):
        assert (response.status, response.incomplete_details.reason) == ("incomplete", "content_filter")
        [found] = response.content_filters
        assert (found["blocked"], found["source_type"]) == (True, "completion")
        assert found["content_filter_results"]["custom_blocklists"]["filtered"] is True
        assert "fentanyl" not in response.output_text
    assert (whole.output_text, last.response.output_text) == ("", "take a")
