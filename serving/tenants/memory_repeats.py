"""Repeats known to this process. Right for one gateway; several share theirs in Redis (redis_repeats.py)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from serving.tenants.repeats import Hold, KeyReused, StillRunning

ROW = 512
"""Bytes that a kept answer takes beside itself, roughly."""
WAIT = 2.0


@dataclass(frozen=True, slots=True)
class _Kept:
    body: str
    answer: bytes
    until: float


class MemoryRepeats:
    """Belongs to one event loop. seconds: how long answers are kept. size: of all of them, in bytes; beyond it the
    oldest go. wait: what StillRunning says.
    """

    def __init__(
        self, *, seconds: float, size: int, wait: float = WAIT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._size = size
        self._wait = wait
        self._clock = clock
        self._held: dict[str, Hold] = {}
        self._kept: OrderedDict[str, _Kept] = OrderedDict()  # the oldest first
        self._used = 0

    async def begin(self, hold: Hold) -> bytes | None:
        self._forget()
        first = self._held.get(hold.name) or self._kept.get(hold.name)
        if first is None:
            self._held[hold.name] = hold
            return None
        if first.body != hold.body:
            raise KeyReused
        kept = self._kept.get(hold.name)
        if kept is None:
            raise StillRunning(retry_after=self._wait)
        return kept.answer

    async def keep(self, hold: Hold, answer: bytes) -> None:
        if self._held.get(hold.name) != hold:
            return
        del self._held[hold.name]
        self._kept[hold.name] = _Kept(hold.body, answer, self._clock() + self._seconds)
        self._used += len(answer) + ROW
        self._forget()

    def release(self, hold: Hold) -> None:
        if self._held.get(hold.name) == hold:
            del self._held[hold.name]

    async def start(self) -> None: ...
    async def close(self) -> None: ...

    def _forget(self) -> None:
        """What is too old, and the oldest of what is too much."""
        now = self._clock()
        while self._kept and (self._used > self._size or next(iter(self._kept.values())).until <= now):
            _, gone = self._kept.popitem(last=False)
            self._used -= len(gone.answer) + ROW
