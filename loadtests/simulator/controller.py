"""The control side: reports on their way, the policy's decisions, replicas that start and stop."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from loadtests.durations import Seconds
from loadtests.simulator.clock import Clock
from loadtests.simulator.policies import Policy, View
from loadtests.simulator.replica import Engine, Replica
from loadtests.simulator.starting import AT_ONCE, StartUp
from serving.scaling.signals import ReplicaSignals


@dataclass(frozen=True)
class MetricPath:
    """Replicas report every `interval`, a report takes `delay`, some are lost; the controller decides every `period`.

    look_back: over which Ray's controller averages requests in flight.
    """

    interval: Seconds
    delay: Seconds = 0.2
    lost: float = 0.01
    period: Seconds = 1.0
    look_back: Seconds = 30.0


@dataclass(frozen=True)
class Hardware:
    """What a replica is, and how many there may be. engine: makes one. initial: up when the run begins."""

    engine: Callable[[], Engine]
    start: StartUp = AT_ONCE
    initial: int = 1
    minimum: int = 1
    maximum: int = 64


class Controller:
    """up: the replicas that take requests. replicas: all that there ever were. changes: (when, up, target)."""

    def __init__(
        self,
        hardware: Hardware,
        metrics: MetricPath,
        policy: Policy,
        clock: Clock,
        rng: Random,
        *,
        held: Callable[[], int],
        came_up: Callable[[], None],
    ) -> None:
        """held: how many wait at the gateway. came_up: called when a replica is up."""
        self._hardware = hardware
        self._metrics = metrics
        self._policy = policy
        self._clock = clock
        self._rng = rng
        self._held = held
        self._came_up = came_up
        self.up: list[Replica] = []
        self.replicas: list[Replica] = []
        self.changes: list[tuple[float, int, int]] = []
        self._starting: list[Replica] = []
        self._target = hardware.initial
        self._ongoing: deque[int] = deque(maxlen=max(1, round(metrics.look_back / metrics.period)))
        self._told_ongoing = 0.0
        for _ in range(hardware.initial):
            self._ask(0.0)
        clock.every(metrics.period, self._decide)
        clock.every(metrics.interval, self._tell_ongoing, first=rng.uniform(0, metrics.interval))

    def _ask(self, seconds: float) -> None:
        replica = Replica(self._hardware.engine(), self._clock)
        self.replicas.append(replica)
        self._starting.append(replica)
        if seconds:
            self._clock.at(self._clock.now + seconds, self._is_up, replica)
        else:
            self._is_up(replica)

    def _is_up(self, replica: Replica) -> None:
        if replica.stopping:
            return
        replica.ready = self._clock.now
        self._starting.remove(replica)
        self.up.append(replica)
        self._note()
        self._clock.every(
            self._metrics.interval, self._report, replica, first=self._rng.uniform(0, self._metrics.interval)
        )
        self._came_up()

    def _report(self, replica: Replica) -> bool:
        if replica.stopping:
            return False
        if self._rng.random() >= self._metrics.lost:
            self._clock.at(self._clock.now + self._metrics.delay, self._reported, replica, replica.signals())
        return True

    def _reported(self, replica: Replica, report: ReplicaSignals) -> None:
        replica.report = report

    def _tell_ongoing(self) -> None:
        if self._ongoing:
            self._told_ongoing = sum(self._ongoing) / len(self._ongoing)

    def _decide(self) -> None:
        held = self._held()
        self._ongoing.append(held + sum(replica.engine.in_flight for replica in self.replicas if not replica.stopped))
        view = View(
            now=self._clock.now,
            reports=[replica.report for replica in self.up if replica.report is not None],
            ongoing=self._told_ongoing,
            running=len(self.up),
            starting=len(self._starting),
            target=self._target,
            held=held,
            minimum=self._hardware.minimum,
            maximum=self._hardware.maximum,
        )
        wanted = self._policy.target(view)
        self._scale(min(max(wanted, self._hardware.minimum), self._hardware.maximum))

    def _scale(self, target: int) -> None:
        if target != self._target:
            self._target = target
            self._note()
        start = AT_ONCE if self._policy.knows_all else self._hardware.start
        for _ in range(target - len(self.up) - len(self._starting)):
            self._ask(start.drawn(target - len(self.up) - 1, self._rng))
        while len(self.up) + len(self._starting) > target:
            if self._starting:
                replica = self._starting.pop()
            else:
                replica = min(reversed(self.up), key=lambda one: one.engine.in_flight)
                self.up.remove(replica)
            replica.stop()
        self._note()

    def _note(self) -> None:
        change = (self._clock.now, len(self.up), self._target)
        if not self.changes or self.changes[-1][1:] != change[1:]:
            self.changes.append(change)
