"""When requests come: seeded schedules of absolute offsets. Every worker makes the same one and takes its share.

A shape (ramp, steps, day, trace) begins with the measured window; during warm-up and tail the rate is that of its ends.
`Closed` is no schedule: its users come back when they have read the answer.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Protocol

from loadtests.durations import Seconds
from loadtests.traces import Call

SETTLING = "settling"
"""The stage of what comes while a step settles; it is not measured."""


@dataclass(frozen=True, slots=True)
class Window:
    """Seconds since the run's begin: what is sent in [start, end) counts; the load goes on to `until` at most."""

    start: float
    end: float
    until: float

    @property
    def seconds(self) -> float:
        return self.end - self.start

    def __contains__(self, at: float) -> bool:
        return self.start <= at < self.end


@dataclass(frozen=True, slots=True)
class Arrival:
    """stage: which part of a stepped schedule it belongs to. call: the sizes, where a trace gives them."""

    number: int
    at: float
    stage: str = ""
    call: Call | None = None


class Pattern(Protocol):
    """steady: whether the rate is meant to be the same throughout, so that in-flight may not grow."""

    @property
    def steady(self) -> bool: ...
    def arrivals(self, window: Window, rng: Random) -> Iterator[Arrival]:
        """In order of time; equal arguments give equal schedules."""
        ...

    def scaled(self, factor: float) -> "Pattern":
        """The same pattern at so many times the rate."""
        ...


@dataclass(frozen=True)
class Renewal:
    """Independent gaps. cv: their coefficient of variation: 0 constant, 1 Poisson, above it bursts (gamma)."""

    rate: float
    cv: float = 1.0
    steady = True

    def arrivals(self, window: Window, rng: Random) -> Iterator[Arrival]:
        at, number = self._gap(rng), 0
        while at < window.until:
            yield Arrival(number, at)
            at, number = at + self._gap(rng), number + 1

    def _gap(self, rng: Random) -> float:
        if self.cv == 0:
            return 1 / self.rate
        return rng.gammavariate(1 / self.cv**2, self.cv**2 / self.rate)

    def scaled(self, factor: float) -> "Renewal":
        return Renewal(self.rate * factor, self.cv)


@dataclass(frozen=True)
class OnOff:
    """A Poisson process whose rate jumps: quiet, burst, quiet. dwell: mean seconds in quiet and in burst."""

    quiet: float
    burst: float
    dwell: tuple[Seconds, Seconds] = (20.0, 4.0)
    steady = True

    @property
    def rate(self) -> float:
        quiet, burst = self.dwell
        return (self.quiet * quiet + self.burst * burst) / (quiet + burst)

    def arrivals(self, window: Window, rng: Random) -> Iterator[Arrival]:
        at, number, on = 0.0, 0, False
        turn = rng.expovariate(1 / self.dwell[0])
        while at < window.until:
            step = rng.expovariate(self.burst if on else self.quiet)
            if at + step > turn:  # memoryless: begin anew at the turn
                at, on = turn, not on
                turn += rng.expovariate(1 / self.dwell[on])
                continue
            at += step
            if at < window.until:
                yield Arrival(number, at)
                number += 1

    def scaled(self, factor: float) -> "OnOff":
        return OnOff(self.quiet * factor, self.burst * factor, self.dwell)


@dataclass(frozen=True)
class Ramp:
    """Poisson, from one rate to another in a straight line over the measured window."""

    first: float
    last: float
    steady = False

    def arrivals(self, window: Window, rng: Random) -> Iterator[Arrival]:
        def rate(at: float) -> float:
            return self.first + (self.last - self.first) * min(1.0, max(0.0, (at - window.start) / window.seconds))

        return _thinned(rate, max(self.first, self.last), window.until, rng)

    def scaled(self, factor: float) -> "Ramp":
        return Ramp(self.first * factor, self.last * factor)


@dataclass(frozen=True)
class Steps:
    """Poisson, at one rate after the other, for equal times. Each step is a stage of its own in the report.

    settle: share of each step, at its begin, that belongs to no stage.
    """

    rates: tuple[float, ...]
    settle: float = 0.2
    steady = False

    def arrivals(self, window: Window, rng: Random) -> Iterator[Arrival]:
        length = window.seconds / len(self.rates)

        def place(at: float) -> float:
            return min(len(self.rates) - 1e-9, max(0.0, (at - window.start) / length))

        for arrival in _thinned(lambda at: self.rates[int(place(at))], max(self.rates), window.until, rng):
            step, inside = divmod(place(arrival.at), 1)
            stage = f"{self.rates[int(step)]:g}/s" if inside >= self.settle else SETTLING
            yield Arrival(arrival.number, arrival.at, stage)

    def scaled(self, factor: float) -> "Steps":
        return Steps(tuple(rate * factor for rate in self.rates), self.settle)


@dataclass(frozen=True)
class Day:
    """Poisson, a sine from `low` to `high` and back; one day lasts `period` seconds, by default the whole window."""

    low: float
    high: float
    period: Seconds | None = None
    steady = False

    def arrivals(self, window: Window, rng: Random) -> Iterator[Arrival]:
        def rate(at: float) -> float:
            turn = (at - window.start) / (self.period or window.seconds)
            return self.low + (self.high - self.low) * (1 - math.cos(2 * math.pi * turn)) / 2

        return _thinned(rate, self.high, window.until, rng)

    def scaled(self, factor: float) -> "Day":
        return Day(self.low * factor, self.high * factor, self.period)


@dataclass(frozen=True)
class Replay:
    """A trace's own times and sizes, beginning with the run.

    time_scale 2 plays it in half the time, bursts and all. rate_scale 2 keeps its clock and plays it twice, the second
    time shifted round by chance; 0.5 leaves out every other call by chance.
    """

    calls: tuple[Call, ...]
    time_scale: float = 1.0
    rate_scale: float = 1.0
    steady = False

    def arrivals(self, window: Window, rng: Random) -> Iterator[Arrival]:
        span = self.calls[-1].at or 1.0
        taken: list[tuple[float, Call]] = []
        whole, part = divmod(self.rate_scale, 1)
        for copy in range(int(whole) + (part > 0)):
            shift = rng.uniform(0, span) if copy else 0.0
            share = 1.0 if copy < whole else part
            taken += [((c.at + shift) % (span + 1e-9), c) for c in self.calls if share >= 1 or rng.random() < share]
        taken.sort(key=lambda item: item[0])
        for number, (at, call) in enumerate(taken):
            if at / self.time_scale >= window.until:
                return
            yield Arrival(number, at / self.time_scale, "", call)

    def scaled(self, factor: float) -> "Replay":
        return Replay(self.calls, self.time_scale, self.rate_scale * factor)


@dataclass(frozen=True)
class Once:
    """So many arrivals when the measured window begins: a batch, or the first call after a night."""

    count: float = 1
    steady = False

    def arrivals(self, window: Window, rng: Random) -> Iterator[Arrival]:
        return (Arrival(number, window.start) for number in range(round(self.count)))

    def scaled(self, factor: float) -> "Once":
        return self


@dataclass(frozen=True)
class Closed:
    """So many users; each asks, reads, thinks (log-normal around `think` seconds), asks again.

    For the question "how many users at a time", and no other: when the server slows, so do its users.
    """

    users: float
    think: Seconds = 5.0
    steady = True

    def arrivals(self, window: Window, rng: Random) -> Iterator[Arrival]:
        """The first question of each user, spread over one time of thinking."""
        first = sorted(rng.uniform(0, self.think) for _ in range(round(self.users)))
        return (Arrival(number, at) for number, at in enumerate(first))

    def scaled(self, factor: float) -> "Closed":
        return Closed(self.users * factor, self.think)


def pause(mean: float, rng: Random, spread: float = 0.6) -> float:
    """A log-normal time of thinking with this mean."""
    return rng.lognormvariate(math.log(mean) - spread**2 / 2, spread) if mean > 0 else 0.0


def share_of(arrivals: Iterator[Arrival], index: int, workers: int) -> Iterator[Arrival]:
    """One worker's part of a schedule; all workers' parts together are the schedule."""
    return (arrival for arrival in arrivals if arrival.number % workers == index)


def _thinned(rate: Callable[[float], float], most: float, until: float, rng: Random) -> Iterator[Arrival]:
    """A Poisson process with a changing rate (Lewis and Shedler): propose at the highest, keep in proportion."""
    at, number = 0.0, 0
    while True:
        at += rng.expovariate(most)
        if at >= until:
            return
        if rng.random() * most < rate(at):
            yield Arrival(number, at)
            number += 1
