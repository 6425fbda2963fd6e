"""Answers as they are read here, and Azure's `prompt_filter_results` (azure-wire-format, 1.5)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from serving.errors import EngineFailed
from serving.guards.results import Results
from serving.protocol import sse


def answer_of(data: bytes) -> dict[str, Any]:
    """An answer, or an event of one, with its choices. Raises EngineFailed: what cannot be read cannot be checked."""
    try:
        answer = json.loads(data)
    except ValueError:
        raise EngineFailed from None
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not all(_is_choice(choice) for choice in choices):
        raise EngineFailed
    readable: dict[str, Any] = answer
    return readable


def _is_choice(choice: object) -> bool:
    return isinstance(choice, dict) and isinstance(choice.get("index", 0), int)


def opening(prompt_results: Sequence[Results]) -> bytes:
    """The first event of a stream whose prompt was checked; nothing for one that was not."""
    if not prompt_results:
        return b""
    envelope: dict[str, Any] = {"id": "", "object": "", "created": 0, "model": "", "choices": []}
    return sse.encode(envelope | {"prompt_filter_results": indexed(prompt_results)})


def indexed(prompt_results: Sequence[Results]) -> list[dict[str, Any]]:
    """`prompt_filter_results`: one entry for each prompt."""
    return [{"prompt_index": at, "content_filter_results": found} for at, found in enumerate(prompt_results)]
