"""The waiting room: where a request is held whose deployment has no running replica.

The deployment sleeps, or starts, or its last replica has just died: to who asks these are one case. Places and time are
bounded. Who gets neither hears how long a start still takes, by what the last ones took.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from serving.errors import EngineStarting, ServingError

Ending = Literal["woken", "expired", "full", "left", "failed"]
"""How a hold ends: a replica came, the time was up, there was no place, the client left, or none can be asked for."""
Wake = Callable[[], Awaitable[None]]
_SOON = 5.0
_OVERDUE = 0.5
_KNOCK_SECONDS = 5.0
"""For so long at least a replica is asked for: what asks for less may be overlooked, since demand is averaged."""
_GIVEN_UP = 3.0
"""Times that a start may take what starts usually take; then it is taken for one that will not end."""


@dataclass(frozen=True, slots=True)
class HoldLimits:
    """requests: places. seconds: in one. lines_every: so often, in seconds, lines of batches may wake who sleeps."""

    requests: int = 64
    seconds: float = 60.0
    lines_every: float = 900.0


class StartTimes(Protocol):
    """What the last starts of a deployment took, in seconds; when none is known, what one is expected to take."""

    async def last(self) -> Sequence[float]:
        """Never empty, and never raises."""
        ...


class NoStartTimes:
    """Of what nobody has measured: a minute."""

    async def last(self) -> Sequence[float]:
        return (60.0,)


def time_left(starts: Sequence[float], elapsed: float) -> float:
    """Seconds until a start is over that began `elapsed` ago: by those that took longer than this one has; of one that
    takes longer than any, half as long again.
    """
    longer = [seconds for seconds in starts if seconds > elapsed]
    return max(1.0, statistics.median(longer) - elapsed if longer else max(_SOON, _OVERDUE * elapsed))


class WaitingRoom:
    """One deployment's, in one gateway process.

    starts: what starts took. on_count: told how many are held. on_end: how a hold ended, and after how many seconds.
    clock: in seconds, never going back.
    """

    def __init__(
        self,
        limits: HoldLimits | None = None,
        *,
        starts: StartTimes | None = None,
        on_count: Callable[[int], None] = lambda count: None,
        on_end: Callable[[Ending, float], None] = lambda ending, seconds: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits or HoldLimits()
        self._starts = starts or NoStartTimes()
        self._on_count = on_count
        self._on_end = on_end
        self._clock = clock
        self._knocking: asyncio.Task[None] | None = None
        self._held = 0
        self._line_held = False
        self._line_may_wake_at = float("-inf")
        self._since: float | None = None
        """When a replica was first missed. None while there is one, as far as is known here."""

    def seen_awake(self) -> None:
        """There is a replica. On the path of every request."""
        self._since = None

    async def hold(self, wake: Wake, *, line: bool = False) -> None:
        """Hold a request until `wake` returns, which asks for a replica and waits for it; it is cancelled when the time
        is up or the client leaves. Raises EngineStarting, and what `wake` raises.

        line: of a batch, which can wait elsewhere. One of them waits here for all, and not for what others have woken
        already; and a deployment that sleeps is woken for lines only so often, so that they gather meanwhile.
        """
        starts, began = await self._starts.last(), self._clock()
        self._forget_what_was_given_up(starts, began)
        if line:
            self._let_line_in(starts, began)
        self._since = began if self._since is None else self._since
        if not line and self._held >= self._limits.requests:
            self._on_end("full", 0.0)
            self._knock(wake)
            raise self._starting(starts)
        ending: Ending = "failed"
        self._take(1, line)
        try:
            async with asyncio.timeout(self._limits.seconds):
                await wake()
            ending = "woken"
            self._since = None
        except TimeoutError:
            ending = "expired"
            raise self._starting(starts) from None
        except asyncio.CancelledError:
            ending = "left"
            raise
        finally:
            self._take(-1, line)
            self._on_end(ending, self._clock() - began)
            if ending in ("expired", "left"):
                self._knock(wake)

    def _knock(self, wake: Wake) -> None:
        """Go on asking for a moment when nobody is left who waits."""
        if self._knocking is None or self._knocking.done():
            self._knocking = asyncio.create_task(_knocked(wake))

    async def close(self) -> None:
        if self._knocking is not None:
            self._knocking.cancel()
            await asyncio.gather(self._knocking, return_exceptions=True)

    def _let_line_in(self, starts: Sequence[float], now: float) -> None:
        if self._since is not None or now < self._line_may_wake_at:
            self._on_end("full", 0.0)
            raise self._starting(starts, at_least=0.0 if self._since is not None else self._line_may_wake_at - now)
        self._line_may_wake_at = now + self._limits.lines_every

    def _take(self, places: int, line: bool) -> None:
        if line:
            self._line_held = places > 0
        else:
            self._held += places
        self._on_count(self._held + self._line_held)

    def _forget_what_was_given_up(self, starts: Sequence[float], now: float) -> None:
        usual = statistics.median(starts)
        waits = self._held or self._line_held
        if self._since is not None and not waits and now - self._since > _GIVEN_UP * usual + self._limits.seconds:
            self._since = None

    def _starting(self, starts: Sequence[float], *, at_least: float = 0.0) -> EngineStarting:
        elapsed = 0.0 if self._since is None else self._clock() - self._since
        return EngineStarting(retry_after=max(at_least, time_left(starts, elapsed)))


async def _knocked(wake: Wake) -> None:
    with contextlib.suppress(TimeoutError, ServingError):
        async with asyncio.timeout(_KNOCK_SECONDS):
            await wake()
