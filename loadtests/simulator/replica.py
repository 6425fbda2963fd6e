"""A replica: an engine on the clock, from being asked for to gone, and what it reports."""

from collections import deque

from loadtests.simulator.clock import Clock
from loadtests.simulator.engine import Engine
from loadtests.simulator.request import Request
from serving.scaling.signals import ReplicaSignals


class Replica:
    """asked, ready, stopped: when, None for not yet. report: its last one that has reached the controller."""

    def __init__(self, engine: Engine, clock: Clock, recent: float) -> None:
        self.engine = engine
        self.asked = clock.now
        self.ready: float | None = None
        self.stopped: float | None = None
        self.stopping = False
        self.report: ReplicaSignals | None = None
        self._clock = clock
        self._recent = recent
        self._busy = False
        self._version = 0
        self._firsts: deque[tuple[float, float]] = deque()
        self._paces: deque[tuple[float, float]] = deque()
        self._counts: deque[tuple[float, int, int]] = deque([(clock.now, 0, 0)])

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
        done = self.engine.end(now)
        self._firsts.extend((now, now - request.sent) for request in self.engine.started)
        self._paces.extend((now, request.tpot) for request in done if request.tpot is not None)
        self._begin()

    def signals(self) -> ReplicaSignals:
        """What it would report now. Rates and times are of the last `recent` seconds."""
        now, engine = self._clock.now, self.engine
        since = now - self._recent
        while len(self._counts) > 1 and self._counts[1][0] <= since:
            self._counts.popleft()
        at, made, read = self._counts[0]
        self._counts.append((now, engine.made_by(now), engine.read))
        passed = max(1.0, now - at)
        return ReplicaSignals(
            running=engine.running,
            waiting=engine.waiting,
            kv_cache=min(1.0, engine.kv_used),
            prefill_backlog=engine.backlog,
            decode_rate=(self._counts[-1][1] - made) / passed,
            prefill_rate=(engine.read - read) / passed,
            ttft_p95=_p95(self._firsts, since),
            tpot_p95=_p95(self._paces, since),
        )


def _p95(values: deque[tuple[float, float]], since: float) -> float | None:
    while values and values[0][0] < since:
        values.popleft()
    known = sorted(value for _, value in values)
    return known[min(len(known) - 1, int(0.95 * len(known)))] if known else None
