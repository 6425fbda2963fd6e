"""What counters of days and months begin with: asks history once for each, and waits for none that is away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from serving.tenants.limits import Subject
from serving.tenants.quotas import History
from serving.tenants.stores import StoreUnavailable
from serving.tenants.turnstile import Turnstile

Period = tuple[Subject, int]
"""A subject, and the beginning of a day or month in seconds since the epoch."""


class Seeds:
    """Belongs to one event loop.

    timeout: seconds after which history is away. While it is, one request per `retry` seconds asks it again and the
    others do not wait; their counters go on from what they have and ask later.
    """

    def __init__(
        self,
        history: History,
        *,
        timeout: float = 2.0,
        retry: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._history = history
        self._timeout = timeout
        self._turnstile = Turnstile(retry, clock)
        self._lookups: dict[Period, asyncio.Task[int | None]] = {}

    def due(self) -> bool:
        """May history be asked now?"""
        return self._turnstile.is_open()

    async def spent(self, periods: Sequence[Period]) -> list[int | None]:
        """Tokens of each subject since then; None where history cannot say now."""
        if not self._turnstile.enter():
            return [None] * len(periods)
        lookups = [self._look_up(period) for period in periods]
        return await asyncio.gather(*(asyncio.shield(lookup) for lookup in lookups))

    async def close(self) -> None:
        lookups = list(self._lookups.values())
        for lookup in lookups:
            lookup.cancel()
        await asyncio.gather(*lookups, return_exceptions=True)

    def _look_up(self, period: Period) -> asyncio.Task[int | None]:
        """A task of its own, shared by all who need it, so that the first client to leave takes nobody with it."""
        lookup = self._lookups.get(period)
        if lookup is None:
            lookup = self._lookups[period] = asyncio.create_task(self._ask(*period))
            lookup.add_done_callback(lambda done: self._looked_up(period, done))
        return lookup

    async def _ask(self, subject: Subject, start: int) -> int | None:
        try:
            async with asyncio.timeout(self._timeout):
                spent = await self._history.spent(subject, datetime.fromtimestamp(start, UTC))
        except (StoreUnavailable, TimeoutError):
            self._turnstile.failed()
            return None
        self._turnstile.answered()
        return spent

    def _looked_up(self, period: Period, lookup: asyncio.Task[int | None]) -> None:
        del self._lookups[period]
        if not lookup.cancelled():
            lookup.exception()  # all who waited may have left; asyncio would log "exception was never retrieved"
