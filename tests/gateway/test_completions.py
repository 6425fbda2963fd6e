"""POST /v1/completions: what differs from chat."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conftest import OpenSite
from tests.local import DONE, USAGE, RecordingEngine, error_of, event, events

PATH = "/v1/completions"


async def test_a_whole_completion_is_openais_with_its_usage(site: OpenSite) -> None:
    answer = (await site().client().post(PATH, json={"model": "echo", "prompt": "one two"})).json()
    assert (answer["object"], answer["choices"][0]["text"]) == ("text_completion", "one two")
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}


async def test_a_stream_adds_up_to_the_completion_and_ends_with_done(site: OpenSite) -> None:
    body = {"model": "echo", "prompt": "one two", "stream": True}
    *payloads, last = events((await site().client().post(PATH, json=body)).content)
    assert "".join(choice["text"] for payload in payloads for choice in payload["choices"]) == "one two"
    assert last == "[DONE]"


async def test_a_broken_stream_of_text_is_charged_from_its_first_event(site: OpenSite) -> None:
    piece = event(choices=[{"index": 0, "text": "one"}])
    open_site = site(RecordingEngine((piece, piece), ConnectionError()))
    await open_site.client().post(PATH, json={"prompt": "x", "model": "echo", "stream": True})
    assert open_site.log()[-1]["completion_tokens"] == 2


@pytest.mark.parametrize("prompt", ["text", ["text", "text"], [1, 2, 3], [[1, 2], [3]], ["text", [1]], ""])
async def test_a_prompt_is_text_or_tokens_or_a_list_of_either_and_reaches_the_engine(
    site: OpenSite, prompt: Any
) -> None:
    engine = RecordingEngine()
    response = await site(engine).client().post(PATH, json={"model": "echo", "prompt": prompt, "echo": True})
    assert (response.status_code, engine.asked[0].operation) == (200, "completions")
    assert engine.asked[0].body == {"model": "echo", "prompt": prompt, "echo": True}


@pytest.mark.parametrize(
    "prompt", [None, 5, {"prompt_embeds": "CANARY"}, [], [{"CANARY": 1}], [1.5], [True], [[["x"]]]]
)
async def test_any_other_prompt_is_refused_without_repeating_it(site: OpenSite, prompt: Any) -> None:
    engine = RecordingEngine()
    response = await site(engine).client().post(PATH, json={"model": "echo", "prompt": prompt})
    assert error_of(response, 400, "invalid_request")["param"] == "prompt"
    assert "CANARY" not in response.text and not engine.asked


async def test_more_prompts_than_allowed_are_refused_and_a_list_of_tokens_is_one_prompt(site: OpenSite) -> None:
    client = site(limits={"max_prompts": 2}).client()
    many = await client.post(PATH, json={"model": "echo", "prompt": ["a", "b", "c"]})
    assert "3" in error_of(many, 400, "invalid_request")["message"]
    assert (await client.post(PATH, json={"model": "echo", "prompt": [1, 2, 3]})).status_code == 200


async def test_a_text_can_be_scored_without_an_answer(site: OpenSite) -> None:
    asked = {"model": "echo", "prompt": "one two three", "echo": True, "logprobs": 1, "max_tokens": 0}
    answer = (await site().client().post(PATH, json=asked)).json()
    [choice] = answer["choices"]
    assert choice["text"] == "one two three" and len(choice["logprobs"]["token_logprobs"]) == 3
    assert answer["usage"]["completion_tokens"] == 0
    refused = await site().client().post(PATH, json={"model": "echo", "prompt": "one", "max_tokens": 0})
    assert error_of(refused, 400, "invalid_request")["param"] == "max_tokens"


async def test_the_usage_event_is_hidden_here_too(site: OpenSite) -> None:
    piece = event(choices=[{"index": 0, "text": "one"}])
    open_site = site(RecordingEngine((piece + event(choices=[], usage=USAGE) + DONE,)))
    response = await open_site.client().post(PATH, json={"model": "echo", "prompt": "x", "stream": True})
    assert response.content == piece + DONE
    assert open_site.log()[-1]["completion_tokens"] == USAGE["completion_tokens"]
