"""Which fields of a request an endpoint takes, where it is not a vLLM of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

VLLM_ONLY = frozenset(
    [
        "top_k",
        "min_p",
        "repetition_penalty",
        "length_penalty",
        "min_tokens",
        "ignore_eos",
        "stop_token_ids",
        "include_stop_str_in_output",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "prompt_logprobs",
        "return_token_ids",
        "include_reasoning",
        "chat_template_kwargs",
        "add_generation_prompt",
        "continue_final_message",
        "add_special_tokens",
    ]
)
"""vLLM's extensions of OpenAI's requests. OpenAI and Azure OpenAI answer 400 to a field that they do not know."""


class Fields:
    """drop: names that are left out. rename: such as max_tokens to max_completion_tokens, for reasoning models; a
    request that has both keeps the new name's value.
    """

    def __init__(self, *, drop: Iterable[str] = (), rename: Mapping[str, str] | None = None) -> None:
        self._drop = frozenset(drop)
        self._rename = dict(rename or {})

    def of(self, body: dict[str, Any]) -> dict[str, Any]:
        if not (self._drop or self._rename):
            return body
        kept = {name: value for name, value in body.items() if name not in self._drop}
        for old, new in self._rename.items():
            if old in kept:
                kept.setdefault(new, kept.pop(old))
        return kept
