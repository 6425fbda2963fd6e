"""What the echo engine can do at a time: so many requests run and the rest waits, and prompts are read one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Load:
    """slots: requests that run at a time, in the order in which they came; None for all. prefill_rate: tokens a second
    at which prompts are read, all of them together; None for at once.
    """

    def __init__(self, *, slots: int | None = None, prefill_rate: float | None = None) -> None:
        self.running = 0
        self.waiting = 0
        self._free = asyncio.Semaphore(slots) if slots else None
        self._prefill_rate = prefill_rate
        self._prefilled_at = 0.0
        """When the prompts that have been let in will be read."""
        self._waiting_tokens = 0

    @asynccontextmanager
    async def slot(self, tokens: int) -> AsyncGenerator[None, None]:
        """Run when it is the turn of this request, which has a prompt of so many tokens."""
        if self._free is not None:
            self.waiting += 1
            self._waiting_tokens += tokens
            try:
                await self._free.acquire()
            finally:
                self.waiting -= 1
                self._waiting_tokens -= tokens
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            if self._free is not None:
                self._free.release()

    async def prefill(self, tokens: int) -> None:
        """Read a prompt of so many tokens, after those that are being read."""
        if self._prefill_rate is None:
            return
        now = asyncio.get_running_loop().time()
        self._prefilled_at = max(now, self._prefilled_at) + tokens / self._prefill_rate
        await asyncio.sleep(self._prefilled_at - now)

    @property
    def prefill_backlog(self) -> int:
        """Tokens of prompts that have not been read."""
        if self._prefill_rate is None:
            return self._waiting_tokens
        left = max(0.0, self._prefilled_at - asyncio.get_running_loop().time())
        return self._waiting_tokens + round(left * self._prefill_rate)
