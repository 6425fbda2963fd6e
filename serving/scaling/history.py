"""What the scaling rule remembers: smoothed values, peaks and trends of the last minutes, and a day's budget."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from itertools import pairwise


class Smoothed:
    """An exponential average. seconds: after which a step has come through by 63 of 100."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._at: float | None = None
        self.value = 0.0

    def add(self, now: float, value: float) -> float:
        # max: a machine's clock may be set back.
        share = 1.0 if self._at is None else 1 - math.exp(-max(0.0, now - self._at) / self._seconds)
        self._at = now
        self.value += share * (value - self.value)
        return self.value


class Peak:
    """The highest value of a time, up to `seconds` ago."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._falling: deque[tuple[float, float]] = deque()
        """What could still become the highest: each later value is lower."""

    def add(self, now: float, value: float) -> None:
        while self._falling and self._falling[-1][1] <= value:
            self._falling.pop()
        self._falling.append((now, value))
        while self._falling[0][0] < now - self._seconds:
            self._falling.popleft()

    def since(self, then: float) -> float:
        return next((value for at, value in self._falling if at >= then), 0.0)


class Trend:
    """Whether values have grown evenly over the last `seconds`."""

    _QUARTERS = 4
    _EVEN = 0.5
    """Of the largest step from one quarter to the next, what the smallest must be at least."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._points: deque[tuple[float, float]] = deque()

    def add(self, now: float, value: float) -> None:
        self._points.append((now, value))
        while self._points[0][0] < now - self._seconds:
            self._points.popleft()

    def growth(self) -> float:
        """Per second; 0 where the values jumped once, swing or fall: what they did is no sign of what they will do."""
        start, quarter = self._points[-1][0] - self._seconds, self._seconds / self._QUARTERS
        parts: list[list[float]] = [[] for _ in range(self._QUARTERS)]
        for at, value in self._points:
            parts[min(int((at - start) / quarter), self._QUARTERS - 1)].append(value)
        if not all(parts):
            return 0.0
        means = [sum(part) / len(part) for part in parts]
        steps = [after - before for before, after in pairwise(means)]
        return sum(steps) / len(steps) / quarter if min(steps) >= self._EVEN * max(steps) > 0 else 0.0


class Standing:
    """Since when something holds without a break."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._seen = 0

    def add(self, now: float, holds: bool) -> None:
        if not holds:
            self._since, self._seen = None, 0
            return
        self._since = now if self._since is None else self._since
        self._seen += 1

    def has_stood(self, now: float, seconds: float) -> bool:
        """For so long, and at two looks at least."""
        return self._since is not None and self._seen > 1 and now - self._since >= seconds


class Patience:
    """How many times longer than set a fleet waits before it becomes smaller.

    Twice as long after each time that it had to grow again soon; so a load that swings makes it stand still after a few
    turns, whatever its period. An hour without such a turn, and it is as set.
    """

    _MOST, _FORGOTTEN = 8.0, 3600.0

    def __init__(self) -> None:
        self.times = 1.0
        self._shrank_at = -math.inf
        self._turned_at = -math.inf

    def shrank(self, now: float) -> None:
        self._shrank_at = now

    def grew(self, now: float, window: float) -> None:
        if now - self._shrank_at <= 4 * window * self.times:
            self.times = min(self._MOST, 2 * self.times)
            self._turned_at = now

    def at(self, now: float) -> float:
        if now - self._turned_at > self._FORGOTTEN:
            self.times = 1.0
        return self.times


class TooMuch:
    """The requests in flight for each replica that have been too many lately, whatever the profile says."""

    _FORGOTTEN = 3600.0

    def __init__(self) -> None:
        self._each = math.inf
        self._at = -math.inf

    def seen(self, now: float, each: float) -> None:
        self._each, self._at = min(self.at(now), each), now

    def at(self, now: float) -> float:
        return self._each if now - self._at <= self._FORGOTTEN else math.inf


class Spending:
    """Replica-hours of the last 24 hours, in steps of ten minutes."""

    _STEP, _DAY = 600.0, 86400.0

    def __init__(self, steps: Iterable[tuple[float, float]] = ()) -> None:
        """steps: (when it began, replica-hours), as `steps` gave them before a restart."""
        self._steps = deque((float(began), float(hours)) for began, hours in steps)
        self._at: float | None = None

    @property
    def steps(self) -> list[tuple[float, float]]:
        return list(self._steps)

    def add(self, now: float, replicas: int) -> float:
        seconds = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        if not self._steps or now - self._steps[-1][0] >= self._STEP:
            self._steps.append((now, 0.0))
        began, spent = self._steps[-1]
        self._steps[-1] = (began, spent + seconds * replicas / 3600)
        while self._steps[0][0] < now - self._DAY:
            self._steps.popleft()
        return sum(spent for _, spent in self._steps)
