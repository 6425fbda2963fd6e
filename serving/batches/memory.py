"""How much of the lines of batches is in memory at a time, over all batches of this process."""

from __future__ import annotations

import asyncio
from collections import deque


class ByteBudget:
    """total: bytes. One that is larger than that gets in when nothing else is."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Wait until there is room, behind those who came before. Whoever takes gives back."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(size)
            self._let_in()
            raise

    def give_back(self, size: int) -> None:
        """A plain call: its caller may be cancelled."""
        self._held -= size
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.done() and self._held and self._held + size > self._total:
                return
            self._waiting.popleft()
            if not turn.done():
                self._held += size
                turn.set_result(None)
