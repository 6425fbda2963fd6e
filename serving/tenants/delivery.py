"""Things on their way to a store that may be away: kept in memory, sent in batches, sent again until they arrive."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Generic, TypeVar

BATCH = 100
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0

Thing = TypeVar("Thing")
_log = logging.getLogger(__name__)


class Delivery(Generic[Thing]):
    """Belongs to one event loop. What it holds is in no order, and is sent again if it may not have arrived.

    send: takes a batch and answers what of it is to be sent again. on_lost: for each thing that is given up, because
    `size` others wait or because the end has come.
    """

    def __init__(
        self, send: Callable[[Sequence[Thing]], Awaitable[list[Thing]]], *, size: int, on_lost: Callable[[Thing], None]
    ) -> None:
        self._send = send
        self._size = size
        self._on_lost = on_lost
        self._waiting: deque[Thing] = deque()
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    def put(self, thing: Thing) -> None:
        """A plain call: its caller may be cancelled."""
        if self._closed or len(self._waiting) >= self._size:
            self._on_lost(thing)
            return
        self._waiting.append(thing)
        self._some.set()
        self._none.clear()

    def start(self) -> None:
        self._running = asyncio.create_task(self._run())

    async def close(self, seconds: float) -> None:
        """Send what is left; give up what has not arrived within this time."""
        if self._running is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._none.wait()
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        self._closed = True
        while self._waiting:
            self._on_lost(self._waiting.popleft())

    async def _run(self) -> None:
        pause = FIRST_PAUSE
        while True:
            await self._some.wait()
            batch = list(islice(self._waiting, BATCH))
            again = await self._sent(batch)
            for _ in batch:  # only now: what is under way when the end comes is not delivered
                self._waiting.popleft()
            self._waiting.extend(again)
            if not self._waiting:
                self._some.clear()
                self._none.set()
            if again:
                await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE) if again else FIRST_PAUSE

    async def _sent(self, batch: list[Thing]) -> list[Thing]:
        try:
            return await self._send(batch)
        except Exception:  # a mistake of ours must not end all deliveries
            _log.exception("%d things could not be sent", len(batch))
            return batch
