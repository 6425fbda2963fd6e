"""The x-ratelimit-* headers: the tightest limits per minute, after this request was admitted or refused."""

from __future__ import annotations

import math
from typing import Protocol

from serving.tenants.quotas import RateState


class HasRates(Protocol):
    @property
    def requests(self) -> RateState | None: ...
    @property
    def tokens(self) -> RateState | None: ...


def headers_of(rates: HasRates, *, whole_seconds: bool = False) -> dict[str, str]:
    """A kind without a limit has no headers. A reset is `6m0s` as OpenAI writes it, or as Azure does whole seconds."""
    headers = {}
    for kind, state in (("requests", rates.requests), ("tokens", rates.tokens)):
        if state is not None:
            headers[f"x-ratelimit-limit-{kind}"] = str(state.limit)
            headers[f"x-ratelimit-remaining-{kind}"] = str(max(0, state.remaining))
            headers[f"x-ratelimit-reset-{kind}"] = (
                str(math.ceil(state.reset)) if whole_seconds else _duration(state.reset)
            )
    return headers


def _duration(seconds: float) -> str:
    """OpenAI's form: 20ms, 1s, 6m0s (https://platform.openai.com/docs/guides/rate-limits)."""
    if 0 < seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    whole = math.ceil(seconds)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m{whole % 60}s"
