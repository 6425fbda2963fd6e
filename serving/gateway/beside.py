"""What runs beside the requests for as long as a gateway does."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod


class Beside(ABC):
    """Starts `_run` as a task of its own and cancels it at the end. An error in it ends it, and nothing else."""

    _running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    @abstractmethod
    async def _run(self) -> None: ...
