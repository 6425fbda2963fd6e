"""Capacity: how many requests one gateway process holds, in all and for each deployment. Memory is all it needs.

An engine that is full queues; this is what keeps that queue, and the gateway's memory, at a size that was chosen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from serving.errors import TooManyRequests

_RETRY_AFTER = 1.0


class Capacity:
    def __init__(self, *, total: int, per_deployment: Mapping[str, int]) -> None:
        self._total = total
        self._per_deployment = per_deployment
        self._running: Counter[str] = Counter()

    def take(self, deployment: str) -> Place:
        """A place for one request, or TooManyRequests."""
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
        return Place(self._running, deployment)


class Nowhere:
    """The place of those who take none."""

    def leave(self) -> None: ...


class Place:
    """One request's place; given back once, however often one asks."""

    __slots__ = ("_deployment", "_left", "_running")

    def __init__(self, running: Counter[str], deployment: str) -> None:
        self._running = running
        self._deployment = deployment
        self._left = False

    def leave(self) -> None:
        if not self._left:
            self._left = True
            self._running[self._deployment] -= 1
