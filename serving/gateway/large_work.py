"""Work on large requests, beside the event loop: what 4 MiB can hold takes up to half a second to check.

One thread, so that large requests wait for each other and not the small ones for them. Python's lock still is one: but
a thread gives it up every few milliseconds, and single calls of the core on a body within the bounds take less than 50.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from serving.errors import TooManyRequests

T = TypeVar("T")

_LARGE = 64 * 2**10
_MOST = 32
_YOUNG = (50_000, 20, 50)


class LargeWork:
    """large: bytes of a request from which on the thread is used. most: requests that wait for it or are in it."""

    def __init__(self, *, large: int = _LARGE, most: int = _MOST) -> None:
        self._large = large
        self._most = most
        self._thread: ThreadPoolExecutor | None = None
        self._inside = 0

    async def run(self, size: int, work: Callable[[], T]) -> T:
        """What the work gives, or raises. Raises TooManyRequests when too many large requests wait."""
        if size < self._large:
            return work()
        if self._inside >= self._most:
            raise TooManyRequests("Too many large requests arrive at once. Please retry shortly.", retry_after=1.0)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-work")
        self._inside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._inside -= 1

    async def start(self) -> None: ...

    async def close(self) -> None:
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None


class CalmCollector:
    """Python's garbage collector, so that it does not stop the loop. What there is at the start, some 500,000 objects
    of libraries, is never walked again, and new objects are walked after 50,000 of them, not after 700: walking all of
    them again and again was most of what parsing a large body took.
    """

    def __init__(self) -> None:
        self._before = gc.get_threshold()

    async def start(self) -> None:
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_YOUNG)

    async def close(self) -> None:
        gc.set_threshold(*self._before)
        gc.unfreeze()
