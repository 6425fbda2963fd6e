"""What an application developer does with the real `openai` package, against real vLLM under real Ray Serve."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import httpx
import openai
import pytest

from tests.e2e.conftest import MODEL
from tests.e2e.product import ROOT, Product

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

NOTE = "67-year-old woman with hypertension. Medications: lisinopril 10 mg daily. Allergies: penicillin (rash)."
ASK = [{"role": "user", "content": f"{NOTE} Any allergies?"}]


def test_a_chat_is_answered_with_its_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=ASK, temperature=0)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer._request_id is not None
    assert answer._request_id.startswith("req_")


def test_the_demo_model_answers_on_topic(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=ASK, temperature=0)
    assert "penicillin" in (answer.choices[0].message.content or "").lower()


def test_a_stream_says_the_same_as_the_whole_answer(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=ASK, temperature=0)
    stream = list(client.chat.completions.create(model=MODEL, messages=ASK, temperature=0, stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in stream) == whole.choices[0].message.content
    assert all(chunk.usage is None for chunk in stream), "usage was not asked for"


def test_a_stream_ends_with_usage_for_those_who_ask(client: openai.OpenAI) -> None:
    *_, last = client.chat.completions.create(
        model=MODEL, messages=ASK, stream=True, max_tokens=5, stream_options={"include_usage": True}
    )
    assert last.usage is not None
    assert (last.choices, last.usage.completion_tokens) == ([], 5)


def test_a_text_is_continued_with_log_probabilities(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="Assessment:", max_tokens=4, logprobs=2, extra_body={"ignore_eos": True}
    )
    assert answer.choices[0].logprobs is not None
    assert len(answer.choices[0].logprobs.tokens or []) == 4


def test_chat_gives_log_probabilities(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=3, logprobs=True, top_logprobs=2, extra_body={"ignore_eos": True}
    )
    assert answer.choices[0].logprobs is not None
    assert [len(token.top_logprobs) for token in answer.choices[0].logprobs.content or []] == [2, 2, 2]


def test_n_gives_two_answers_and_one_seed_the_same_twice(client: openai.OpenAI) -> None:
    first, second = (
        client.chat.completions.create(model=MODEL, messages=ASK, n=2, temperature=1.0, seed=7, max_tokens=12)
        for _ in range(2)
    )
    assert [c.index for c in first.choices] == [0, 1]
    assert [c.message.content for c in first.choices] == [c.message.content for c in second.choices]


def test_a_stop_sequence_stops(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=MODEL, prompt=NOTE, stop=[" "], max_tokens=50, temperature=0)
    assert " " not in answer.choices[0].text


PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]}]


@pytest.mark.parametrize(
    ("asked", "reason", "param"),
    [
        ({"messages": IMAGE}, "text only", "messages"),
        ({"logit_bias": {"99999999": 1}}, "vocabulary", "logit_bias"),
        ({"max_tokens": 2, "extra_body": {"min_tokens": 3}}, "min_tokens", "min_tokens"),
    ],
)
def test_what_vllm_refuses_is_told_with_its_reason(
    client: openai.OpenAI, asked: dict[str, Any], reason: str, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=MODEL, **({"messages": ASK} | asked))
    assert reason in refused.value.message and refused.value.param == param


def test_a_json_schema_is_kept(client: openai.OpenAI) -> None:
    schema = {
        "type": "object",
        "properties": {"allergic": {"type": "boolean"}, "severity": {"enum": ["mild", "severe"]}},
        "required": ["allergic", "severity"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=MODEL,
        messages=ASK,
        temperature=0,
        max_tokens=200,
        response_format={"type": "json_schema", "json_schema": {"name": "allergy", "schema": schema, "strict": True}},
    )
    told = json.loads(answer.choices[0].message.content or "")
    assert isinstance(told["allergic"], bool)
    assert told["severity"] in ("mild", "severe")


def test_a_required_tool_is_called_with_arguments_of_its_schema(client: openai.OpenAI) -> None:
    parameters = {
        "type": "object",
        "properties": {"urgent": {"type": "boolean"}},
        "required": ["urgent"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=MODEL,
        messages=ASK,
        temperature=0,
        max_tokens=200,
        frequency_penalty=1.5,  # a small model would fill the call with spaces, which its grammar allows
        tools=[{"type": "function", "function": {"name": "refer_to_allergist", "parameters": parameters}}],
        tool_choice={"type": "function", "function": {"name": "refer_to_allergist"}},
    )
    [call] = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "refer_to_allergist"
    assert isinstance(json.loads(call.function.arguments)["urgent"], bool)


def test_models_are_listed_with_their_notice(client: openai.OpenAI) -> None:
    [card] = [card for card in client.models.list() if card.id == MODEL]
    assert client.models.retrieve(MODEL).id == MODEL
    assert "not for clinical use" in str(getattr(card, "description", ""))


def test_a_wrong_key_is_refused(product: Product) -> None:
    with pytest.raises(openai.AuthenticationError) as refusal:
        openai.OpenAI(base_url=f"{product.url}/v1", api_key="wrong").models.list()
    assert refusal.value.code == "invalid_api_key"


def test_a_revoked_key_stops_working_within_seconds(product: Product) -> None:
    def keys(*words: str) -> str:
        command = [sys.executable, "-m", "serving.cli", "keys", *words]
        environment = {"CLINSERVE_SERVER__STATE_DIR": str(product.state_dir), "PATH": "/usr/bin:/bin"}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout

    key = json.loads(keys("create", "--name", "short-lived", "--json"))["key"]
    client = openai.OpenAI(base_url=f"{product.url}/v1", api_key=key, max_retries=0)
    assert client.models.list().data
    keys("revoke", key[:12])
    time.sleep(3)
    with pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_a_key_bound_to_a_network_works_from_there_whatever_the_client_says(product: Product) -> None:
    def answer(network: str, **headers: str) -> int:
        command = [sys.executable, "-m", "serving.cli", "keys", "create", "--name", network, "--network", network]
        environment = {"CLINSERVE_SERVER__STATE_DIR": str(product.state_dir), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        client = openai.OpenAI(base_url=f"{product.url}/v1", api_key=done.stdout.strip(), max_retries=0)
        try:
            return client.models.with_raw_response.list(extra_headers=headers).status_code
        except openai.PermissionDeniedError as refused:
            return refused.status_code

    assert answer("127.0.0.0/8") == 200
    assert answer("127.0.0.0/9", **{"x-forwarded-for": "10.1.1.1"}) == 200
    assert answer("10.0.0.0/8", **{"x-forwarded-for": "10.1.1.1"}) == 403


def test_an_unknown_model_is_not_found_with_a_suggestion(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="Did you mean 'clinical-demo'") as refusal:
        client.chat.completions.create(model="clinical-dmo", messages=ASK)
    assert refusal.value.code == "model_not_found"


def test_too_long_a_prompt_says_how_long_it_may_be(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length is 2048 tokens") as refusal:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "pain " * 5000}])
    assert refusal.value.code == "context_length_exceeded"


def test_a_schema_that_the_engine_cannot_use_is_the_callers_error(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="JSON schema"):
        client.chat.completions.create(
            model=MODEL,
            messages=ASK,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}},
        )


def test_invalid_json_and_5_mb_are_clear_errors(product: Product) -> None:
    url, headers = f"{product.url}/v1/chat/completions", {"authorization": f"Bearer {product.key}"}
    broken = httpx.post(url, headers=headers, content=b"{")
    assert (broken.status_code, broken.json()["error"]["code"]) == (400, "invalid_request")
    large = httpx.post(url, headers=headers, content=b" " * 5_000_000)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")
    assert len(large.headers.get_list("x-request-id")) == 1


def test_forbidden_fields_never_reach_the_engine(client: openai.OpenAI) -> None:
    for field in ({"chat_template": "{{ 1 }}"}, {"cache_salt": "theirs"}, {"prompt_embeds": "AAAA"}):
        with pytest.raises(openai.BadRequestError) as refusal:
            client.chat.completions.create(model=MODEL, messages=ASK, extra_body=field)
        assert refusal.value.code == "forbidden_field"
