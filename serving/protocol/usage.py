"""What an answer says it has cost. The numbers are an endpoint's own, so each is looked at before anybody counts on it.

One that is no count (a text, a fraction, -1, 2**70, true) is as good as none: whoever needs it estimates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

MOST_TOKENS = 100_000_000
"""Of one request. No model reads or writes as many; a larger number is a mistake, and would spoil sums and limits."""


@dataclass(frozen=True, slots=True)
class ReportedUsage:
    """Tokens. None: not said, or no count. cached: the part of prompt that a cache held; 0 where that cannot be."""

    prompt: int | None
    cached: int
    completion: int | None
    unusable: frozenset[str] = frozenset()
    """What was not said or could not be used: prompt, cached, completion, total (it is not the sum; it is not used)."""

    def after(self, before: ReportedUsage) -> ReportedUsage:
        """As known when a stream said `before` and then this: of each number the last that can be used."""
        prompt = before.prompt if self.prompt is None else self.prompt
        completion = before.completion if self.completion is None else self.completion
        filled = {name for name, value in (("prompt", prompt), ("completion", completion)) if value is not None}
        return replace(self, prompt=prompt, completion=completion, unusable=self.unusable - filled)

    def with_one_more(self) -> ReportedUsage:
        """As known when a piece of text has come since, which it does not count."""
        if self.completion is None:
            return self
        return replace(self, completion=self.completion + 1, unusable=self.unusable | {"completion"})


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS


def usage_in(usage: object) -> ReportedUsage | None:
    """Of the `usage` of a chat, completion, embedding or response; None if that is not an object."""
    if not isinstance(usage, dict):
        return None
    prompt = _count_of(usage, "prompt_tokens", "input_tokens")
    completion = _count_of(usage, "completion_tokens", "output_tokens")
    details = _first_of(usage, "prompt_tokens_details", "input_tokens_details")
    says_cached = details is not None and not (isinstance(details, dict) and details.get("cached_tokens") is None)
    cached = _count_of(details, "cached_tokens") if isinstance(details, dict) else None
    if cached is not None and cached > (prompt or 0):
        cached = None
    total = usage.get("total_tokens")
    parts = prompt is not None and completion is not None
    problems = {
        "prompt": prompt is None,
        "cached": says_cached and cached is None,
        "completion": completion is None,
        "total": parts and total is not None and total != (prompt or 0) + (completion or 0),
    }
    return ReportedUsage(prompt, cached or 0, completion, frozenset(what for what, is_so in problems.items() if is_so))


def _count_of(values: dict[str, Any], *names: str) -> int | None:
    value = _first_of(values, *names)
    return value if is_count(value) else None


def _first_of(values: dict[str, Any], *names: str) -> Any:
    """What the first name says that says something."""
    return next((values[name] for name in names if values.get(name) is not None), None)
