"""Admission: what a request must hold before an engine sees it, and how it is given back. No HTTP, no Ray.

A Lease travels with the request and is settled exactly once, however the request ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from serving.errors import TooManyRequests
from serving.tenants.keys import Caller

_RETRY_AFTER = 1.0


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens really spent. cached is the part of prompt that the KV cache already held."""

    prompt: int = 0
    cached: int = 0
    completion: int = 0


class Lease(Protocol):
    def settle(self, usage: Usage) -> None:
        """Give back what was reserved, keep what was used. A plain call: its caller may be cancelled. Idempotent."""
        ...


class Quotas(Protocol):
    async def reserve(self, caller: Caller, deployment: str) -> Lease:
        """Admit the request or raise TooManyRequests with a true retry_after."""
        ...


class InFlightQuotas:
    """Bounds the requests in one gateway process: in all, and for each deployment. Memory is all it needs.

    An engine that is full queues; this is what keeps that queue, and the gateway's memory, at a size that was chosen.
    """

    def __init__(self, *, total: int, per_deployment: Mapping[str, int]) -> None:
        self._total = total
        self._per_deployment = per_deployment
        self._running: Counter[str] = Counter()

    async def reserve(self, caller: Caller, deployment: str) -> Lease:
        limit = self._per_deployment[deployment]
        if self._running[deployment] >= limit:
            raise TooManyRequests(
                f"The deployment '{deployment}' is answering {limit} requests, its limit. Please retry after 1 second.",
                retry_after=_RETRY_AFTER,
            )
        if self._running.total() >= self._total:
            raise TooManyRequests(
                f"The server is answering {self._total} requests, its limit. Please retry after 1 second.",
                retry_after=_RETRY_AFTER,
            )
        self._running[deployment] += 1
        return _InFlight(self._running, deployment)


class _InFlight:
    __slots__ = ("_deployment", "_running", "_settled")

    def __init__(self, running: Counter[str], deployment: str) -> None:
        self._running = running
        self._deployment = deployment
        self._settled = False

    def settle(self, usage: Usage) -> None:
        if not self._settled:
            self._settled = True
            self._running[self._deployment] -= 1
