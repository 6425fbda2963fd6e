"""How many records wait to be written, as a metric: read every second, so that a store that is away shows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from serving.gateway.beside import Beside
from serving.telemetry.metrics import Book, Metrics

_EVERY_SECONDS = 1.0


class HasBacklog(Protocol):
    @property
    def backlog(self) -> int: ...


class Backlog(Beside):
    """Runs beside the requests."""

    def __init__(self, metrics: Metrics, books: Mapping[Book, HasBacklog]) -> None:
        self._metrics = metrics
        self._books = books

    async def _run(self) -> None:
        while True:
            for book, records in self._books.items():
                self._metrics.backlog(book, records.backlog)
            await asyncio.sleep(_EVERY_SECONDS)
