"""Filters, an endpoint elsewhere and spill-over around real vLLM: the chat model once more, as its own client."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.e2e.conformance.scenarios import ASK
from tests.e2e.conformance.site import FULL, SCREENED, STRICT
from tests.e2e.conftest import MODEL

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def test_filters_change_nothing_of_an_answer_that_passes(client: openai.OpenAI) -> None:
    given: Any = {"messages": ASK, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    plain = list(client.chat.completions.create(model=MODEL, **given))
    first, *screened = client.chat.completions.create(model=SCREENED, **given)
    assert not first.choices and first.model_extra and first.model_extra["prompt_filter_results"]
    assert text_of(screened) == text_of(plain) and "penicillin" in text_of(plain).lower()
    assert screened[-1].usage and screened[-1].usage == plain[-1].usage


def test_a_record_number_in_a_prompt_is_told(client: openai.OpenAI) -> None:
    told = [{"role": "user", "content": ASK[0]["content"] + " MRN: 00123456"}]
    answer = client.chat.completions.create(model=SCREENED, messages=told, max_tokens=5)  # type: ignore[arg-type]
    [found] = (answer.model_extra or {})["prompt_filter_results"]
    assert found["content_filter_results"]["personally_identifiable_information"]["detected"] is True


def test_a_prompt_that_is_blocked_never_reaches_the_model(client: openai.OpenAI) -> None:
    asked: Any = [{"role": "user", "content": "What does project aurora say?"}]
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=SCREENED, messages=asked)
    assert refused.value.code == "content_filter"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_says_what_it_must_not_ends_before_it(client: openai.OpenAI, stream: bool) -> None:
    answer: Any = client.chat.completions.create(model=STRICT, messages=ASK, temperature=0, stream=stream)
    if stream:
        chunks = list(answer)
        text, reason = text_of(chunks), chunks[-1].choices[0].finish_reason
    else:
        text, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
    assert "penicillin" not in text.lower() and reason == "content_filter"


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_deployment_cannot_take_another_answers_and_says_so(client: openai.OpenAI, stream: bool) -> None:
    raw = client.chat.completions.with_raw_response.create(model=FULL, messages=ASK, temperature=0, stream=stream)
    assert raw.headers["x-ms-deployment-name"] == SCREENED and raw.headers["x-ms-spillover-from-deployment"] == FULL


@pytest.mark.parametrize("tier", ["default", "flex", "priority", "auto"])
def test_a_tier_is_taken_by_vllm_and_named_in_the_answer(client: openai.OpenAI, tier: Any) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=5, service_tier=tier)
    assert answer.service_tier == ("flex" if tier == "flex" else "default")


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
