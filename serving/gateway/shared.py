"""An answer that is the same for all who ask at about the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """What `ask` gives, asked for at most once in `seconds`, however many want it. Belongs to one event loop.

    Who comes while it is being asked waits for that answer. An error of `ask` is not kept.
    """

    def __init__(self, ask: Callable[[], Awaitable[T]], *, seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._asking = asyncio.Lock()
        self._known: T
        self._until = float("-inf")

    async def read(self) -> T:
        if time.monotonic() < self._until:
            return self._known
        async with self._asking:
            if time.monotonic() >= self._until:
                self._known = await self._ask()
                self._until = time.monotonic() + self._seconds
            return self._known
