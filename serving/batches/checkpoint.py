"""Checkpoints: what became of each line is in the database before the line counts as done."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from serving.batches.batch import Result
from serving.tenants.stores import StoreUnavailable


class Checkpoints:
    """Writes together what waits together: one transaction for all lines that end while the one before is written."""

    def __init__(self, write: Callable[[Sequence[Result]], None], *, pause: float = 1.0) -> None:
        """pause: seconds between tries while the database is away."""
        self._write = write
        self._pause = pause
        self._waiting: dict[int, Result] = {}
        self._turn = asyncio.Lock()

    async def keep(self, result: Result) -> None:
        """Returns when it is written. While the database is away, waits. Raises ClaimLost."""
        self._waiting[result.line] = result
        async with self._turn:
            while result.line in self._waiting:  # else it was written with those before
                await self._write_all()

    async def _write_all(self) -> None:
        results = list(self._waiting.values())
        # A thread cannot be cancelled, and its lines must not be written after they were given up: wait for it.
        writing = asyncio.create_task(asyncio.to_thread(self._write, results))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.gather(writing, return_exceptions=True)
            raise
        except StoreUnavailable:
            await asyncio.sleep(self._pause)
            return
        for written in results:
            del self._waiting[written.line]
