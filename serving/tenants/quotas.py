"""Quotas: what a request reserves before an engine sees it, and how the rest is given back. No HTTP, no Ray.

A Lease travels with the request and is settled exactly once, however the request ends. Two implementations of Quotas,
in memory for one gateway and in Redis for many (redis.py), are held to tests/tenants/test_quotas_contract.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from serving.errors import ServingError, TooManyRequests
from serving.tenants.limits import Limits, Subject


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens really spent. cached is the part of prompt that the KV cache already held."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0

    @property
    def total(self) -> int:
        return self.prompt + self.completion


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request asks of all its subjects at once. id: the request's. tokens: a safe estimate of what it takes."""

    id: str
    limits: Mapping[Subject, Limits]
    tokens: int


@dataclass(frozen=True, slots=True)
class RateState:
    """The tightest limit per minute after a request was admitted or refused; what x-ratelimit-* headers say.

    limit and remaining count requests or tokens; reset is seconds until remaining is limit again if nothing else comes.
    """

    limit: int
    remaining: int
    reset: float


class Lease(Protocol):
    """What a request holds. requests, tokens: None where no limit of that kind applies."""

    @property
    def requests(self) -> RateState | None: ...
    @property
    def tokens(self) -> RateState | None: ...

    def settle(self, usage: Usage) -> None:
        """Give back what was reserved, keep what was used. A plain call: its caller may be cancelled. Idempotent."""
        ...


class QuotaExceeded(TooManyRequests):
    """A limit is reached. The message names the subject, the limit and the wait; requests and tokens as on a Lease."""

    def __init__(
        self, message: str, *, retry_after: float | None, requests: RateState | None, tokens: RateState | None
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.requests = requests
        self.tokens = tokens


class BudgetExhausted(QuotaExceeded):
    """Tokens per day or month are used up. OpenAI's code for it, so that clients do not treat it as a burst."""

    kind, code = "insufficient_quota", "insufficient_quota"


class RequestTooLarge(QuotaExceeded):
    """One request that asks for more than a whole limit: waiting does not help, so there is no retry_after."""

    code = "request_exceeds_limit"


class QuotasUnavailable(ServingError):
    """The counters cannot be reached and the server is set to refuse then."""

    status, kind, code = 503, "server_error", "quotas_unavailable"
    default_message = "Quotas cannot be checked right now. Nothing was generated; try again shortly."


Settlement = Literal["settled", "unknown", "lost"]
"""settled: counted. unknown: the store had no such lease (it lost its data). lost: given up, the store stayed away."""


class History(Protocol):
    """What was already spent, for counters that start empty: after a restart, or when Redis lost its data."""

    async def spent(self, subject: Subject, since: datetime) -> int:
        """Tokens in the usage ledger since then. Raises StoreUnavailable."""
        ...


class Quotas(Protocol):
    async def reserve(self, claim: Claim) -> Lease:
        """Hold the claim on all its subjects, or on none and raise.

        Raises QuotaExceeded (429) with a retry_after after which the same claim is admitted if nobody else comes;
        RequestTooLarge (429, no retry_after); QuotasUnavailable (503).
        """
        ...

    async def start(self) -> None:
        """Begin what runs in the background. Call once, in the event loop that serves."""
        ...

    async def close(self) -> None:
        """Deliver the settlements that are still under way, within a few seconds."""
        ...


class NoQuotas:
    """Quotas that are off, and what stands in while the store is away and requests are let through."""

    async def reserve(self, claim: Claim) -> Lease:
        return Unlimited()

    async def start(self) -> None: ...
    async def close(self) -> None: ...


class Unlimited:
    """A lease on nothing."""

    requests: RateState | None = None
    tokens: RateState | None = None

    def settle(self, usage: Usage) -> None: ...


OnSettled = Callable[[Settlement], None]
