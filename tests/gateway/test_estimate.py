"""The estimate of a prompt's tokens: safe for any tokenizer that it has seen, and learned from what was counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.estimate import TokenEstimate
from tests.local import chat

NOTE = "67-year-old woman with hypertension. " * 50


def test_it_learns_how_many_tokens_a_deployments_bytes_make() -> None:
    estimate = TokenEstimate()
    first = estimate.prompt(chat(NOTE))
    for _ in range(1000):
        estimate.learn(chat(NOTE), tokens=len(NOTE) // 4)
    assert len(NOTE) // 4 < estimate.prompt(chat(NOTE)) < first


def test_a_dearer_prompt_is_believed_at_once() -> None:
    estimate = TokenEstimate()
    estimate.learn(chat(NOTE), tokens=len(NOTE))
    assert estimate.prompt(chat(NOTE)) >= len(NOTE)


@given(st.text(min_size=300), st.floats(0.05, 1.0))
def test_after_one_request_the_same_again_is_never_estimated_below_what_it_took(text: str, per_byte: float) -> None:
    tokens = int(len(text.encode(errors="surrogatepass")) * per_byte)
    estimate = TokenEstimate()
    estimate.learn(chat(text), tokens)
    assert estimate.prompt(chat(text)) >= tokens


def test_token_ids_are_counted_as_they_are() -> None:
    assert TokenEstimate().prompt({"prompt": [5] * 700}) == 701
    assert TokenEstimate().prompt({"prompt": [[5] * 700, [6] * 3]}) == 704


def test_an_image_counts_as_an_image_not_as_its_bytes() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10**6}}
    body = {"messages": [{"role": "user", "content": [image, {"type": "text", "text": "What is this?"}]}]}
    assert 2048 < TokenEstimate().prompt(body) < 2200


def test_tools_and_schemas_are_part_of_the_prompt() -> None:
    tool = {"type": "function", "function": {"name": "dose", "description": "x" * 1000}}
    assert TokenEstimate().prompt(chat(tools=[tool])) - TokenEstimate().prompt(chat()) > 500
