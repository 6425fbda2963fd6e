"""Log probabilities of the echo engine, from a hash of the token, in the shapes of OpenAI's two operations."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any


def logprob_of(token: str) -> float:
    return -0.01 - (zlib.crc32(token.encode()) % 100) / 1000


def _alternatives(token: str, most: int) -> dict[str, float]:
    """The token and others below it, `most` in all but one at least."""
    return {token: logprob_of(token)} | {f"~{rank}": -1.0 - rank for rank in range(1, most)}


def of_text(tokens: Sequence[str], *, most: int, starts: int = 0, first_is_known: bool = False) -> dict[str, Any]:
    """For completions, https://platform.openai.com/docs/api-reference/completions/object. starts: offset of the first.

    first_is_known: it begins an echoed prompt: nothing comes before it, so it has no probability (lm-eval relies on
    both nulls).
    """
    offsets, probabilities, alternatives = [], [], []
    for position, token in enumerate(tokens):
        known = first_is_known and position == 0
        offsets.append(starts)
        probabilities.append(None if known else logprob_of(token))
        alternatives.append(None if known else _alternatives(token, most))
        starts += len(token)
    return {
        "tokens": list(tokens),
        "token_logprobs": probabilities,
        "top_logprobs": alternatives,
        "text_offset": offsets,
    }


def of_chat(tokens: Sequence[str], *, most: int) -> dict[str, Any]:
    """For chat, https://platform.openai.com/docs/api-reference/chat/object."""

    def entry(token: str, logprob: float) -> dict[str, Any]:
        return {"token": token, "logprob": logprob, "bytes": list(token.encode())}

    return {
        "content": [
            entry(token, logprob_of(token))
            | {"top_logprobs": [entry(t, p) for t, p in list(_alternatives(token, most).items())[:most]]}
            for token in tokens
        ],
        "refusal": None,
    }
