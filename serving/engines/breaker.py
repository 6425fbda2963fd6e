"""A circuit breaker around an engine: an endpoint that fails again and again is left alone for a while.

    closed ── `failures` in a row ──▶ open ── `open_for` later ──▶ half-open ── first token ──▶ closed
                                       ▲                             │
                                       └────────── failure ──────────┘

A failure is one that the endpoint is to blame for: EngineUnavailable, EngineTimeout, EngineFailed. What a client did
wrong (the 400 family), a 429 and a client that leaves say nothing about the endpoint: they neither open it, nor close
it, nor end a row. Elsewhere one bad client took a fleet down (https://github.com/sgl-project/sglang/issues/25811).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Literal

from serving.engines.engine import Engine, EngineRequest, Tally
from serving.engines.refusals import EngineBusy
from serving.errors import EngineError, EngineUnavailable

State = Literal["closed", "open", "half_open"]
_WHILE_PROBED = 1.0
_MESSAGE = "The model's endpoint has failed again and again and is left alone for a while. Nothing was generated."


class BreakingEngine:
    """An Engine. One process's view: each gateway replica has its own.

    failures: so many in a row open it, if they fall within `window` seconds. open_for: seconds until one request at a
    time is let through to try. on_change: told each new state, at once and in order; must not raise. clock: in seconds,
    never going back.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        failures: int = 5,
        window: float = 60.0,
        open_for: float = 15.0,
        on_change: Callable[[State], None] = lambda state: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._failures = failures
        self._window = window
        self._open_for = open_for
        self._on_change = on_change
        self._clock = clock
        self.state: State = "closed"
        self._row = 0
        self._row_began = 0.0
        self._opened = 0.0
        self._probing = False
        self._era = 0
        """Counts the changes of state: what began in an earlier one says nothing about this one."""

    async def answer(self, request: EngineRequest) -> AsyncGenerator[bytes, None]:
        era = self._admit()
        try:
            async with aclosing(self._engine.answer(request)) as blocks:
                async for block in blocks:
                    if self.state == "half_open":
                        era = self._answers(era)
                    yield block
            self._succeeded(era)
        except EngineError as error:
            if not isinstance(error, EngineBusy):
                self._failed(era)
            raise
        finally:
            if era == self._era:
                self._probing = False  # also of a client that left, who has told us nothing

    def _admit(self) -> int:
        """The era in which a request begins. Raises EngineUnavailable."""
        if self.state == "open":
            if wait := self._wait():
                raise EngineUnavailable(_MESSAGE, retry_after=wait)
            self._become("half_open")
        if self.state == "half_open":
            if self._probing:
                raise EngineUnavailable(_MESSAGE, retry_after=_WHILE_PROBED)
            self._probing = True
        return self._era

    def _wait(self) -> float:
        """Seconds until the next try."""
        return max(0.0, self._opened + self._open_for - self._clock())

    def _answers(self, era: int) -> int:
        """The probe has its first token. Others need not wait for its last; but a next failure opens again at once."""
        if era != self._era:
            return era
        self._become("closed")
        self._row, self._row_began = self._failures - 1, self._clock()
        return self._era

    def _succeeded(self, era: int) -> None:
        if era == self._era:
            self._row = 0

    def _failed(self, era: int) -> None:
        if era != self._era:
            return
        now = self._clock()
        if self._row == 0 or now - self._row_began > self._window:
            self._row, self._row_began = 0, now
        self._row += 1
        if self.state == "half_open" or self._row >= self._failures:
            self._opened = now
            self._become("open")

    def _become(self, state: State) -> None:
        self.state = state
        self._era += 1
        self._row = 0
        self._probing = False
        self._on_change(state)

    async def reckon(self, request_id: str) -> Tally | None:
        return await self._engine.reckon(request_id)

    def cut(self) -> None:
        self._engine.cut()

    async def ready(self) -> bool:
        """Not while it is open. Afterwards as the engine says: who waits for this must not keep it from being tried."""
        if self.state == "open" and self._wait():
            return False
        return await self._engine.ready()

    async def close(self) -> None:
        await self._engine.close()
