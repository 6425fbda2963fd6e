"""What a claim is answered: a lease with what is left of the minute, or a refusal with the reason and the wait."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from serving.tenants.limits import Scope, Subject
from serving.tenants.quotas import BudgetExhausted, QuotaExceeded, RateState, RequestTooLarge, Usage
from serving.tenants.windows import PERIODS, Ask, Kind, Reading

UNTIL_ONE_ENDS = 1.0
"""Seconds. When a request in flight ends is the one thing about limits that nobody can know."""

_OWNERS: dict[Scope, str] = {"key": "this key", "tenant": "the tenant", "deployment": "the deployment '{}'"}
_NAMES: dict[Kind, str] = {
    "requests_per_minute": "requests per minute",
    "tokens_per_minute": "tokens per minute",
    "tokens_per_day": "tokens per day",
    "tokens_per_month": "tokens per month",
    "concurrent_requests": "concurrent requests",
}


class Held:
    """A Lease on counters. give_back: called once, with the tokens that were spent."""

    __slots__ = ("_give_back", "_settled", "requests", "tokens")

    def __init__(self, requests: RateState | None, tokens: RateState | None, give_back: Callable[[int], None]) -> None:
        self.requests = requests
        self.tokens = tokens
        self._give_back = give_back
        self._settled = False

    def settle(self, usage: Usage) -> None:
        if not self._settled:
            self._settled = True
            self._give_back(usage.total)


def tightest(windows: Iterable[tuple[int, int, int]], now: float) -> RateState | None:
    """Of limits of one kind per minute, each as its limit, what is used and when it is empty again."""
    found = None
    for limit, used, empty_at in windows:
        remaining = max(0, limit - used)
        if found is None or remaining < found[1]:
            found = limit, remaining, empty_at
    return None if found is None else RateState(found[0], found[1], max(0.0, found[2] - now))


def refusal(asks: Sequence[Ask], readings: Sequence[Reading], now: float) -> QuotaExceeded:
    """The error for a claim of which at least one ask is refused. It names the limit that keeps it waiting longest."""

    def rates(kind: Kind) -> RateState | None:
        pairs = zip(asks, readings, strict=True)
        return tightest(((ask.limit, found.used, found.empty_at) for ask, found in pairs if ask.kind == kind), now)

    requests, tokens = rates("requests_per_minute"), rates("tokens_per_minute")
    for ask in asks:
        if ask.amount > ask.limit and ask.kind != "concurrent_requests":
            return RequestTooLarge(_too_large(ask), retry_after=None, requests=requests, tokens=tokens)

    waits = [
        (_wait(ask, found, now), ask, found)
        for ask, found in zip(asks, readings, strict=True)
        if found.used + ask.amount > ask.limit
    ]
    wait, ask, found = max(waits, key=lambda each: each[0])
    seconds = math.ceil(wait)
    message = f"{_exceeded(ask, found)} Please retry after {seconds} second{'' if seconds == 1 else 's'}."
    error = BudgetExhausted if ask.kind in PERIODS and not _only_held(ask, found) else QuotaExceeded
    return error(message, retry_after=wait, requests=requests, tokens=tokens)


def _wait(ask: Ask, found: Reading, now: float) -> float:
    return found.frees_at - now if found.frees_at and not _only_held(ask, found) else UNTIL_ONE_ENDS


def _only_held(ask: Ask, found: Reading) -> bool:
    """A day or month has room, but requests in flight hold it; what they do not use they give back."""
    return ask.kind in PERIODS and found.used - found.held + ask.amount <= ask.limit


def _exceeded(ask: Ask, found: Reading) -> str:
    owner, limit = _owner(ask.subject), f"{ask.limit} {_NAMES[ask.kind]}"
    owner = owner[0].upper() + owner[1:]
    if ask.kind == "concurrent_requests":
        return f"{owner} has {found.used} requests in flight and its limit is {limit}."
    if ask.kind == "requests_per_minute":
        return f"{owner} has used {found.used} of its {limit}."
    used = f"{owner} has used {found.used - found.held} of its {limit}"
    if found.held:
        used += f", requests in flight hold {found.held} more"
    return f"{used}, and this request reserves {ask.amount}."


def _too_large(ask: Ask) -> str:
    return (
        f"This request reserves {ask.amount} tokens for its prompt and its answer, but {_owner(ask.subject)} has a "
        f"limit of {ask.limit} {_NAMES[ask.kind]}, so waiting does not help. Fewer max_tokens or a shorter prompt do."
    )


def _owner(subject: Subject) -> str:
    return _OWNERS[subject.scope].format(subject.id)
