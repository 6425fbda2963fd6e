"""Checkpoints: what became of each line is in the database before the line counts as done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from serving.batches.batch import Result
from serving.tenants.stores import StoreUnavailable

_AWAY_SECONDS = 1.0


class Checkpoints:
    """Writes together what waits together: one transaction for all lines that end while the last one is written."""

    def __init__(self, write: Callable[[Sequence[Result]], None]) -> None:
        self._write = write
        self._waiting: dict[int, Result] = {}
        self._turn = asyncio.Lock()

    async def keep(self, result: Result) -> None:
        """Returns when it is written. While the database is away, waits. Raises ClaimLost."""
        self._waiting[result.line] = result
        async with self._turn:
            if result.line not in self._waiting:
                return  # written with those before
            results, self._waiting = self._waiting, {}
            await self._commit(list(results.values()))

    async def _commit(self, results: Sequence[Result]) -> None:
        while True:
            # A thread cannot be cancelled, and its lines must not be written after they were given up: wait for it.
            writing = asyncio.ensure_future(asyncio.to_thread(self._write, results))
            try:
                return await asyncio.shield(writing)
            except asyncio.CancelledError:
                await asyncio.wait({writing})
                raise
            except StoreUnavailable:
                await asyncio.sleep(_AWAY_SECONDS)
