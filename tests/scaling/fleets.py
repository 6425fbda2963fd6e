"""A fleet of imagined replicas that starts, serves and stops as the rule says, second by second; no Ray."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from serving.gateway.fleet import Replicas
from serving.scaling.decision import Decision, Fleet, Scaling
from serving.scaling.signals import ReplicaSignals
from serving.scaling.told import Change, Told


@dataclass
class Imagined:
    """slots: of each replica; what is above them waits. start: seconds. Load is shared out evenly."""

    scaling: Scaling
    slots: int = 10
    start: float = 5.0
    minimum: int = 1
    maximum: int = 10
    now: float = 0.0
    step: float = 1.0
    target: int = 0
    running: int = 0
    starting: list[float] = field(default_factory=list)
    """When each of them will run."""
    decisions: list[Decision] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.target = self.running = self.minimum

    def live(self, seconds: float, in_flight: Callable[[float], float], **signals: float) -> None:
        """in_flight: requests at a moment."""
        for _ in range(int(seconds / self.step)):
            self.now += self.step
            self.running += sum(at <= self.now for at in self.starting)
            self.starting = [at for at in self.starting if at > self.now]
            self._obey(self.scaling.decide(self.fleet(in_flight(self.now), **signals)))

    def fleet(self, in_flight: float, **signals: float) -> Fleet:
        there = round(in_flight)
        return Fleet(
            now=self.now,
            replicas=tuple(self._signals(there, **signals)),
            running=self.running,
            starting=len(self.starting),
            target=self.target,
            held=0 if self.running else there,
            minimum=self.minimum,
            maximum=self.maximum,
        )

    def _signals(self, there: int, **signals: float) -> Iterator[ReplicaSignals]:
        for replica in range(self.running):
            mine = there // self.running + (replica < there % self.running)
            numbers = {"running": min(mine, self.slots), "waiting": max(0, mine - self.slots)} | signals
            yield ReplicaSignals.from_numbers(numbers)

    def _obey(self, decision: Decision) -> None:
        self.decisions.append(decision)
        self.targets.append(decision.replicas)
        more = decision.replicas - self.target
        self.starting += [self.now + self.start] * max(0, more)
        for _ in range(-more):
            if self.starting:
                self.starting.pop()
            else:
                self.running -= 1
        self.target = decision.replicas

    @property
    def turns(self) -> int:
        """How often the fleet went the other way than before."""
        steps = [after - before for before, after in pairwise(self.targets) if after != before]
        return sum(math.copysign(1, one) != math.copysign(1, other) for one, other in pairwise(steps))


class ToldFleet:
    """A gateway's Fleet of which this is told, and nothing else known."""

    def __init__(self, told: Mapping[str, Told], replicas: Mapping[str, Replicas] | None = None) -> None:
        self._told = told
        self._replicas = replicas or {}

    async def replicas(self) -> Mapping[str, Replicas]:
        return self._replicas

    async def scaling(self) -> Mapping[str, Told]:
        return self._told


TOLD = Told(
    at=1_790_000_000.0,
    running=1,
    starting=1,
    target=2,
    wanted=3,
    minimum=1,
    maximum=2,
    reason="bounds",
    detail="9 in flight; 3 wanted of 1 to 2",
    missed=True,
    changes={"queue": 2},
    latest=(Change(1_789_999_990.0, 1, 2, "queue", "9 in flight (5 waiting)"),),
)
