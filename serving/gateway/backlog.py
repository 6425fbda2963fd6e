"""How many records wait to be written, as a metric: read every second, so that a store that is away shows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from serving.telemetry.metrics import Book, Metrics

_EVERY_SECONDS = 1.0


class HasBacklog(Protocol):
    @property
    def backlog(self) -> int: ...


class Backlog:
    """Runs beside the requests."""

    def __init__(self, metrics: Metrics, books: Mapping[Book, HasBacklog]) -> None:
        self._metrics = metrics
        self._books = books
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            for book, records in self._books.items():
                self._metrics.backlog(book, records.backlog)
            await asyncio.sleep(_EVERY_SECONDS)
