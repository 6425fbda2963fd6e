"""Lanes: at a replica's door, lines of batches wait for those who wait for an answer.

vLLM's priorities order what waits inside it. But a line that runs is in every step with the others and makes it longer,
and where lines come all the time every step has some. So lines are let in at a pace, and all that fit when nobody else
is here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from starlette.types import Message, Scope, Send

from serving.deployments.pace import Pace
from serving.engines.engine import BATCH_LANE, LANE_HEADER

_QUIET_SECONDS = 3.0
"""Without an interactive request for so long, nobody is here: who has just been answered asks again."""
_LANE_HEADER, _BATCH_LANE = LANE_HEADER.encode(), BATCH_LANE.encode()


class Lanes:
    """slots: lines at a time. One for each replica, in its event loop."""

    def __init__(self, *, slots: int, pace: Pace | None = None, quiet: float = _QUIET_SECONDS) -> None:
        self._slots = slots
        self._pace = pace or Pace()
        self._quiet = quiet
        self._present = 0
        self._lines = 0
        self._started = 0
        self._seen = float("-inf")
        """When an interactive request was here last."""
        self._next = 0.0
        """When the next line may go in beside interactive requests."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def of(self, scope: Scope, send: Send) -> tuple[AbstractAsyncContextManager[None], Send]:
        """Where a request runs, and what it sends through."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return contextlib.nullcontext(), send
        if (_LANE_HEADER, _BATCH_LANE) in scope["headers"]:
            return self.line(), send
        return self.interactive(), self._watched(send)

    @asynccontextmanager
    async def interactive(self) -> AsyncGenerator[None, None]:
        self._present += 1
        try:
            yield
        finally:
            self._present -= 1
            self._seen = _now()
            self._let_in()

    @asynccontextmanager
    async def line(self) -> AsyncGenerator[None, None]:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()  # its turn came as it left
            raise
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        self._lines -= 1
        self._let_in()

    def _let_in(self) -> None:
        """Those whose turn it is; and come back when it is the next one's."""
        now = _now()
        while self._waiting and self._lines < self._slots:
            alone_at = self._seen + self._quiet
            busy = self._present > 0 or now < alone_at
            if busy and now < self._next:
                return self._come_back(self._next - now if self._present else min(self._next, alone_at) - now)
            turn = self._waiting.popleft()
            if turn.done():
                continue
            self._lines += 1
            self._started += 1
            if busy:
                self._next = now + 1 / self._pace.rate
            turn.set_result(None)

    def _come_back(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(max(0.001, seconds), self._let_in)

    def _watched(self, send: Send) -> Send:
        """Tells the pace when the first bytes of a stream leave."""
        began, before, waiting = _now(), self._started if self._lines == 0 else -1, True

        async def passed(message: Message) -> None:
            nonlocal waiting
            if waiting and message["type"] == "http.response.body":
                waiting = False
                if message.get("more_body"):  # else it is no stream, and this is its last token
                    self._pace.waited(_now() - began, alone=self._started == before)
            await send(message)

        return passed


def _now() -> float:
    return asyncio.get_running_loop().time()
