"""How many records wait to be written, as a metric: read every second, so that a store that is away shows. And now
and then, how many files of records are damaged.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Protocol

from serving.gateway.beside import Beside
from serving.telemetry.metrics import Book, Metrics

_EVERY_SECONDS = 1.0
_LOOK_EVERY = 15


class HasBacklog(Protocol):
    @property
    def backlog(self) -> int: ...

    @property
    def bad_files(self) -> int:
        """Looks at the disk."""
        ...


class Backlog(Beside):
    """Runs beside the requests."""

    def __init__(self, metrics: Metrics, books: Mapping[Book, HasBacklog]) -> None:
        self._metrics = metrics
        self._books = books

    async def _run(self) -> None:
        for turn in itertools.count():
            for book, records in self._books.items():
                self._metrics.backlog(book, records.backlog)
                if turn % _LOOK_EVERY == 0:
                    self._metrics.bad_files(book, await asyncio.to_thread(getattr, records, "bad_files"))
            await asyncio.sleep(_EVERY_SECONDS)
