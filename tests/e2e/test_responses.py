"""The Responses API with the real `openai` package, against real vLLM under real Ray Serve."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from serving.commands.serve import DEMO_TENANT
from tests.e2e.conftest import MODEL
from tests.e2e.product import ROOT, Product

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

ASK = (
    "67-year-old woman with hypertension. Medications: lisinopril 10 mg daily. Allergies: penicillin (rash). "
    "Any allergies?"
)


class Allergy(BaseModel):
    allergic: bool
    severity: Literal["mild", "severe"]


def test_an_input_is_answered_as_the_chat_would(client: openai.OpenAI) -> None:
    response = client.responses.create(model=MODEL, input=ASK, temperature=0)
    chat = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": ASK}], temperature=0)
    assert (response.status, response.output_text) == ("completed", chat.choices[0].message.content)
    assert "penicillin" in response.output_text.lower() and response.usage and chat.usage
    assert (response.usage.input_tokens, response.usage.output_tokens) == (
        chat.usage.prompt_tokens,
        chat.usage.completion_tokens,
    )


def test_a_stream_says_the_same_as_the_whole_answer(client: openai.OpenAI) -> None:
    whole = client.responses.create(model=MODEL, input=ASK, temperature=0)
    events = list(client.responses.create(model=MODEL, input=ASK, temperature=0, stream=True))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    last: Any = events[-1]
    assert (text, last.type) == (whole.output_text, "response.completed")
    assert last.response.usage.output_tokens == whole.usage.output_tokens  # type: ignore[union-attr]


def test_structured_output_is_parsed(client: openai.OpenAI) -> None:
    response = client.responses.parse(model=MODEL, input=ASK, temperature=0, max_output_tokens=200, text_format=Allergy)
    assert isinstance(response.output_parsed, Allergy)


def test_a_required_function_is_called_with_arguments_of_its_schema(client: openai.OpenAI) -> None:
    parameters: Any = {
        "type": "object",
        "properties": {"urgent": {"type": "boolean"}},
        "required": ["urgent"],
        "additionalProperties": False,
    }
    tool: Any = {"type": "function", "name": "refer_to_allergist", "parameters": parameters, "strict": True}
    asked: Any = {
        "model": MODEL, "input": ASK, "temperature": 0, "max_output_tokens": 200, "tools": [tool],
        "tool_choice": {"type": "function", "name": "refer_to_allergist"},
        "extra_body": {"frequency_penalty": 1.5},  # else a small model fills the call with spaces
    }  # fmt: skip
    *_, last = client.responses.create(**asked, stream=True)
    for response in (client.responses.create(**asked), last.response):
        [call] = response.output
        assert (response.status, call.type, call.name) == ("completed", "function_call", "refer_to_allergist")
        assert isinstance(json.loads(call.arguments)["urgent"], bool)


def test_a_conversation_goes_on_and_a_response_is_made_in_the_background_once_they_are_kept(
    product: Product, client: openai.OpenAI
) -> None:
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model=MODEL, input=ASK, background=True)
    command = [sys.executable, "-m", "serving.cli", "tenants", "keep-responses", DEMO_TENANT, "1h"]
    subprocess.run(command, cwd=ROOT, env=product.environment, check=True, capture_output=True)
    time.sleep(3)  # quotas.refresh
    first = client.responses.create(model=MODEL, input=ASK, max_output_tokens=20)
    more = client.responses.create(model=MODEL, input="And now?", previous_response_id=first.id, max_output_tokens=20)
    assert first.usage and more.usage and more.usage.input_tokens > first.usage.input_tokens
    later = client.responses.create(model=MODEL, input=ASK, temperature=0, background=True)
    while later.status in ("queued", "in_progress"):
        time.sleep(0.1)
        later = client.responses.retrieve(later.id)
    assert later.status == "completed" and "penicillin" in later.output_text.lower()
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
