"""The counters behind limits: any 60 seconds, UTC days and months, requests in flight. No I/O; time is an argument.

MemoryQuotas counts with these, and redis_quotas.lua is held to do the same.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from serving.tenants.limits import Limits, Subject
from serving.tenants.quotas import Claim

Kind = Literal["requests_per_minute", "tokens_per_minute", "tokens_per_day", "tokens_per_month", "concurrent_requests"]
PERIODS: frozenset[Kind] = frozenset({"tokens_per_day", "tokens_per_month"})
"""What is counted since the beginning of a UTC day or month, and so begins with what history says."""

MINUTE = 60
SLOTS = MINUTE + 1
DAY = 86_400

Span = Callable[[float], tuple[int, int]]
"""From a time to the period around it: its beginning and its end."""


class Ask(NamedTuple):
    """What a claim asks of one limit. A tuple, as Reading: a claim makes up to fifteen, and frozen classes are slow."""

    subject: Subject
    kind: Kind
    limit: int
    amount: int


class Reading(NamedTuple):
    """How a claim finds one limit.

    used: without the claim itself. held: the part of it that requests in flight may give back. frees_at: when there is
    room for the claim, if nobody else comes and nothing is settled; 0 if there is now, or if no clock can tell.
    empty_at: when all of a minute's amount has expired, the claim's with it if it was admitted; 0 if there is none.
    """

    used: int
    held: int = 0
    frees_at: int = 0
    empty_at: int = 0


def asks_of(claim: Claim) -> list[Ask]:
    """One for each limit that is set, in the order of the claim's subjects."""
    asks = []
    for subject, limits in claim.limits.items():
        asks += _asks(subject, limits, claim.tokens)
    return asks


def _asks(subject: Subject, limits: Limits, tokens: int) -> list[Ask]:
    asks = []
    if limits.requests_per_minute is not None:
        asks.append(Ask(subject, "requests_per_minute", limits.requests_per_minute, 1))
    if limits.tokens_per_minute is not None:
        asks.append(Ask(subject, "tokens_per_minute", limits.tokens_per_minute, tokens))
    if limits.tokens_per_day is not None:
        asks.append(Ask(subject, "tokens_per_day", limits.tokens_per_day, tokens))
    if limits.tokens_per_month is not None:
        asks.append(Ask(subject, "tokens_per_month", limits.tokens_per_month, tokens))
    if limits.concurrent_requests is not None:
        asks.append(Ask(subject, "concurrent_requests", limits.concurrent_requests, 1))
    return asks


class Counter:
    """Of one limit of one subject. What a counter does not need, such as a seed, it does not do."""

    __slots__ = ()

    def used(self, now: float) -> int:
        """What counts against the limit now."""
        raise NotImplementedError

    def hold(self, amount: int) -> int:
        """Add what a claim asks, at the time of the last `used`. The answer goes back into `settle`."""
        raise NotImplementedError

    def settle(self, now: float, slot: int, held: int, spent: int) -> None:
        """Replace what was held, in the slot that `hold` answered, by what was spent."""
        raise NotImplementedError

    def read(self, now: float, ask: Ask) -> Reading:
        raise NotImplementedError

    def idle(self, now: float) -> bool:
        """Would a new counter say the same?"""
        raise NotImplementedError

    def empty_at(self) -> int:
        """As in a Reading, at the time of the last `used`."""
        return 0

    def unseeded(self, now: float) -> int | None:
        """The beginning of the period of which history should say what was spent."""
        return None

    def seed(self, start: int, spent: int) -> None:
        """What history says was spent since start. Counts once."""


class RequestWindow(Counter):
    """An amount in any 60 seconds, in slots of one second. Requests stay counted when they end.

    A slot counts until 60 seconds after its end: so wherever 60 seconds begin, they never hold more than the limit.
    That makes 61 slots, 60 whole ones and the one under way.
    """

    __slots__ = ("_amount", "_newest", "_slots")

    def __init__(self) -> None:
        self._slots = [0] * SLOTS
        self._newest = 0
        self._amount = 0

    def used(self, now: float) -> int:
        second = int(now)
        passed = second - self._newest
        if passed > 0:
            if passed < SLOTS and self._amount:
                self._expire(second)
            elif self._amount:
                self._clear()
            self._newest = second
        elif passed <= -SLOTS:  # the clock was set back; what is here would count until it is there again
            self._clear()
            self._newest = second
        return self._amount

    def hold(self, amount: int) -> int:
        self._slots[self._newest % SLOTS] += amount
        self._amount += amount
        return self._newest

    def settle(self, now: float, slot: int, held: int, spent: int) -> None: ...

    def read(self, now: float, ask: Ask) -> Reading:
        used = self.used(now)
        return Reading(used, frees_at=self._frees_at(used + ask.amount - ask.limit), empty_at=self.empty_at())

    def idle(self, now: float) -> bool:
        return not self.used(now)

    def empty_at(self) -> int:
        if self._amount:
            for second in range(self._newest, self._newest - SLOTS, -1):
                if self._slots[second % SLOTS]:
                    return second + SLOTS
        return 0

    def _frees_at(self, over: int) -> int:
        """When as much as this has expired."""
        if over > 0:
            for second in range(self._newest - MINUTE, self._newest + 1):
                over -= self._slots[second % SLOTS]
                if over <= 0:
                    return second + SLOTS
        return 0

    def _expire(self, second: int) -> None:
        for slot in range(self._newest + 1, second + 1):
            self._amount -= self._slots[slot % SLOTS]
            self._slots[slot % SLOTS] = 0

    def _clear(self) -> None:
        self._slots = [0] * SLOTS
        self._amount = 0


class TokenWindow(RequestWindow):
    """The same with tokens, which are corrected when the request ends, as long as their slot counts."""

    __slots__ = ()

    def settle(self, now: float, slot: int, held: int, spent: int) -> None:
        self.used(now)
        if self._newest - SLOTS < slot <= self._newest:
            change = max(spent - held, -self._slots[slot % SLOTS])  # a clock set back may have cleared what was held
            self._slots[slot % SLOTS] += change
            self._amount += change


class Period(Counter):
    """Tokens spent in a UTC day or month, and held by requests in flight, whenever they began."""

    __slots__ = ("_end", "_held", "_seeded", "_span", "_spent", "_start")

    def __init__(self, span: Span) -> None:
        self._span = span
        self._start = self._end = 0
        self._spent = self._held = 0
        self._seeded = False

    def used(self, now: float) -> int:
        if not self._start <= now < self._end:
            self._start, self._end = self._span(now)
            self._spent, self._seeded = 0, False
        return self._spent + self._held

    def hold(self, amount: int) -> int:
        self._held += amount
        return 0

    def settle(self, now: float, slot: int, held: int, spent: int) -> None:
        self.used(now)
        self._held = max(0, self._held - held)
        self._spent += spent

    def read(self, now: float, ask: Ask) -> Reading:
        used = self.used(now)
        return Reading(used, self._held, frees_at=self._end if used + ask.amount > ask.limit else 0)

    def idle(self, now: float) -> bool:
        return not self._held and not self._start <= now < self._end

    def unseeded(self, now: float) -> int | None:
        self.used(now)
        return None if self._seeded else self._start

    def seed(self, start: int, spent: int) -> None:
        """Not added to what was spent here since: history counts that too, if a little later."""
        if start == self._start and not self._seeded:
            self._spent = max(self._spent, spent)
            self._seeded = True


class InFlight(Counter):
    """Requests that hold a lease."""

    __slots__ = ("_running",)

    def __init__(self) -> None:
        self._running = 0

    def used(self, now: float) -> int:
        return self._running

    def hold(self, amount: int) -> int:
        self._running += amount
        return 0

    def settle(self, now: float, slot: int, held: int, spent: int) -> None:
        self._running = max(0, self._running - held)

    def read(self, now: float, ask: Ask) -> Reading:
        return Reading(self._running, self._running)

    def idle(self, now: float) -> bool:
        return not self._running


def day_of(now: float) -> tuple[int, int]:
    start = int(now // DAY) * DAY
    return start, start + DAY


def month_of(now: float) -> tuple[int, int]:
    start = datetime.fromtimestamp(int(now), UTC).replace(day=1, hour=0, minute=0, second=0)
    end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    return int(start.timestamp()), int(end.timestamp())


NEW: dict[Kind, Callable[[], Counter]] = {
    "requests_per_minute": RequestWindow,
    "tokens_per_minute": TokenWindow,
    "tokens_per_day": lambda: Period(day_of),
    "tokens_per_month": lambda: Period(month_of),
    "concurrent_requests": InFlight,
}
