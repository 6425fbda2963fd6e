"""`functions` and `function_call`, as clients have them that are older than tools."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import OpenSite
from tests.local import RecordingEngine, chat, error_of, events

CHAT = "/v1/chat/completions"
DOSE: dict[str, Any] = {"name": "dose", "parameters": {"type": "object", "properties": {"drug": {"type": "string"}}}}


async def test_a_function_is_called_and_its_answer_taken(site: OpenSite) -> None:
    client = site().client()
    first = (await client.post(CHAT, json=chat("dose please", functions=[DOSE]))).json()["choices"][0]
    call = first["message"]["function_call"]
    assert (first["finish_reason"], call["name"]) == ("function_call", "dose")
    assert "tool_calls" not in first["message"] and isinstance(call["arguments"], str)
    turns = [
        {"role": "user", "content": "dose please"},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "dose", "content": "10 mg"},
    ]
    second = (await client.post(CHAT, json=chat(messages=turns, functions=[DOSE]))).json()["choices"][0]
    assert second["message"]["content"] == "10 mg"


async def test_a_stream_calls_it_too(site: OpenSite) -> None:
    response = await site().client().post(CHAT, json=chat("dose please", functions=[DOSE], stream=True))
    choices = [choice for payload in events(response.content)[:-1] for choice in payload["choices"]]
    calls = [choice["delta"]["function_call"] for choice in choices if "function_call" in choice["delta"]]
    assert calls[0]["name"] == "dose" and "".join(call.get("arguments", "") for call in calls).startswith("{")
    assert choices[-1]["finish_reason"] == "function_call"
    assert not any("tool_calls" in choice["delta"] for choice in choices)


async def test_the_engine_is_asked_with_tools(site: OpenSite) -> None:
    engine = RecordingEngine()
    body = chat(functions=[DOSE], function_call={"name": "dose"})
    assert (await site(engine).client().post(CHAT, json=body)).status_code == 200
    asked = engine.asked[0].body
    assert asked["tools"] == [{"type": "function", "function": DOSE}]
    assert asked["tool_choice"] == {"type": "function", "function": {"name": "dose"}}
    assert asked["parallel_tool_calls"] is False and not asked.keys() & {"functions", "function_call"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"functions": [DOSE], "tools": []}, "functions"),
        ({"functions": [{}]}, "functions"),
        ({"functions": ["dose"]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"functions": [DOSE], "function_call": "required"}, "function_call"),
        ({"functions": [DOSE], "function_call": {}}, "function_call"),
        ({"messages": [{"role": "function", "name": "dose", "content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "assistant", "function_call": {"name": 5}}]}, "messages[0].function_call.name"),
        ({"best_of": 2}, "best_of"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"moderation": {"model": "m"}}, "moderation"),
    ],
)
async def test_what_would_answer_something_else_is_refused_by_name(
    site: OpenSite, fields: dict[str, Any], param: str
) -> None:
    response = await site().client().post(CHAT, json=chat(**fields))
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_what_cannot_change_an_answer_is_ignored(site: OpenSite) -> None:
    engine = RecordingEngine()
    ignored = {"prediction": {"type": "content", "content": "x"}, "best_of": 1, "modalities": ["text"], "store": True}
    assert (await site(engine).client().post(CHAT, json=chat(**ignored))).status_code == 200
    assert not engine.asked[0].body.keys() & ignored.keys()
    error_of(await site(engine).client().post(CHAT, json=chat(nobody_knows=1)), 400, "invalid_request")
