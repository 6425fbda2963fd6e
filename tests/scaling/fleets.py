"""A fleet of imagined replicas that starts, serves and stops as the rule says, second by second; no Ray."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from serving.scaling.decision import Decision, Fleet, Scaling
from serving.scaling.signals import ReplicaSignals


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
