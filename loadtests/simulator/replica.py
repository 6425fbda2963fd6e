"""A replica: an engine on the clock, from being asked for to gone, and what it reports, by production's own meter."""

from typing import Protocol

from loadtests.simulator.clock import Clock
from loadtests.simulator.request import Request
from serving.scaling.meter import Meter
from serving.scaling.signals import ReplicaSignals


class Engine(Protocol):
    """What runs requests, in steps.

    read, made: tokens of prompts and answers so far. started: who got a first token when the last steps ended.
    backlog: tokens of prompts still to be read. preempted: how often a request had to begin anew.
    """

    started: list[Request]
    read: int
    preempted: int

    @property
    def running(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def kv_used(self) -> float: ...
    @property
    def backlog(self) -> int: ...
    def add(self, request: Request) -> None: ...
    def leave(self, request: Request) -> None:
        """The client of one that has no token yet has gone."""
        ...

    def begin(self, now: float) -> float | None:
        """Begin the next step, or all those that will be like it; return when they end, None without work."""
        ...

    def cut(self, now: float) -> float | None:
        """Somebody has come: return when the steps under way end now, None where nothing changes."""
        ...

    def end(self, now: float) -> list[Request]:
        """Account for the steps that have ended; return who has its whole answer."""
        ...

    def made_by(self, now: float) -> int:
        """Tokens of answers up to now, those of steps under way included."""
        ...


class Replica:
    """asked, ready, stopped: when, None for not yet. report: its last one that has reached the controller."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self.engine = engine
        self.asked = clock.now
        self.ready: float | None = None
        self.stopped: float | None = None
        self.stopping = False
        self.report: ReplicaSignals | None = None
        self._clock = clock
        self._busy = False
        self._version = 0
        self._meter = Meter(lambda: clock.now)
        self._told_made = self._told_read = 0

    def take(self, request: Request) -> None:
        self.engine.add(request)
        if not self._busy:
            self._begin()
        elif (ends := self.engine.cut(self._clock.now)) is not None:
            self._plan(ends)

    def stop(self) -> None:
        """Take no more, finish what runs, then go."""
        self.stopping = True
        if not self.engine.in_flight:
            self.stopped = self._clock.now

    def signals(self) -> ReplicaSignals:
        """What it would report now."""
        engine, made = self.engine, self.engine.made_by(self._clock.now)
        self._meter.decoded(made - self._told_made)
        self._meter.prefilled(engine.read - self._told_read)
        self._told_made, self._told_read = made, engine.read
        return self._meter.read(
            running=engine.running,
            waiting=engine.waiting,
            kv_cache=min(1.0, engine.kv_used),
            prefill_backlog=engine.backlog,
        )

    def _begin(self) -> None:
        ends = self.engine.begin(self._clock.now)
        self._busy = ends is not None
        if ends is not None:
            self._plan(ends)
        elif self.stopping and self.stopped is None:
            self.stopped = self._clock.now

    def _plan(self, ends: float) -> None:
        self._version += 1
        self._clock.at(ends, self._ended, self._version)

    def _ended(self, version: int) -> None:
        if version != self._version:
            return
        now = self._clock.now
        for request in self.engine.end(now):
            if (tpot := request.tpot) is not None:
                self._meter.per_token(tpot)
        for request in self.engine.started:
            self._meter.first_token(now - request.sent)
        self._begin()
