"""The decision: from what a fleet reports to how many replicas it should have, and why.

Up: as many as the load needs (requests in flight, tokens a second, prompts waiting, KV cache, against what one replica
can do), at once; replicas that start count as capacity on its way. A queue that stands, or a goal that is missed, adds
more than the load alone would. Down: one at a time, when the smaller fleet would have been well within its capacity for
a whole window. To zero: after idling, where that is allowed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from serving.scaling.profile import CapacityProfile
from serving.scaling.signals import ReplicaSignals


class Reason(StrEnum):
    """Why a fleet is to have so many replicas. A closed set: metrics are labelled with it."""

    STEADY = "steady"
    """The fleet fits its load."""
    WAITING = "waiting"
    """Fewer would do, or more have been asked for: it is too early to say."""
    CONCURRENCY = "concurrency"
    TOKENS = "tokens"
    PREFILL = "prefill"
    KV_CACHE = "kv_cache"
    FORECAST = "forecast"
    """The load grows: by the time that a replica could be up it would be too much."""
    QUEUE = "queue"
    """Requests wait, whatever the profile says."""
    GOAL = "goal"
    """A goal is missed, whatever the profile says."""
    SPARE = "spare"
    """One replica fewer would have been enough for the whole window."""
    IDLE = "idle"
    WAKE = "wake"
    """Requests wait for a deployment that sleeps."""
    BOUNDS = "bounds"
    BUDGET = "budget"
    BLIND = "blind"
    """Replicas run and none of them reports."""
    FAULT = "fault"
    """The rule itself failed: nothing is changed."""


@dataclass(frozen=True, slots=True)
class Goals:
    """What a deployment promises, and how its fleet may change.

    ttft_p95, tpot_p95: seconds; None for no goal. scale_to_zero_after: seconds without a request; None for never.
    scale_down_after: seconds for which one replica fewer must have been enough. replica_hours_a_day: a budget, counted
    over the last 24 hours; None for none. When it is spent the fleet goes down to its minimum, and to one at least.
    """

    ttft_p95: float | None = None
    tpot_p95: float | None = None
    scale_to_zero_after: float | None = None
    scale_down_after: float = 300.0
    replica_hours_a_day: float | None = None


@dataclass(frozen=True, slots=True)
class Fleet:
    """A deployment's replicas at one moment. now: seconds, of any clock that does not go back.

    replicas: what the running ones report; shorter than `running` while some are silent. target: how many were asked
    for. held: requests that wait at the gateway for a replica. minimum, maximum: the bounds that are set.
    """

    now: float
    replicas: Sequence[ReplicaSignals] = field(default_factory=tuple)
    running: int = 0
    starting: int = 0
    target: int = 0
    held: int = 0
    minimum: int = 0
    maximum: int = 1


@dataclass(frozen=True, slots=True)
class Decision:
    """replicas: within the bounds. wanted: what the load asks for, bounds and budget aside. detail: for people."""

    replicas: int
    reason: Reason
    detail: str
    wanted: int = 0


_BUSY = 0.8
"""The part of a replica's measured concurrency that is used before another is asked for."""
_BUSY_TOKENS = 0.7
_SPARE = 0.6
"""What a smaller fleet may be used for a fleet to become smaller. The gap to _BUSY is what keeps it from flapping."""


class Scaling:
    """The rule for one deployment. It remembers the last minutes and nothing else; time comes from fleet.now."""

    def __init__(self, goals: Goals, profile: CapacityProfile) -> None:
        self._goals = goals
        self._profile = profile
        self._needs: deque[tuple[float, float]] = deque()
        """(when, replicas that the load filled), for scale_down_after."""
        self._busy_at: float | None = None
        self._changed_at = -math.inf

    def decide(self, fleet: Fleet) -> Decision:
        in_flight = sum(one.in_flight for one in fleet.replicas) + fleet.held
        if self._busy_at is None or in_flight:
            self._busy_at = fleet.now
        filled = in_flight / self._profile.concurrency
        self._needs.append((fleet.now, filled))
        while self._needs[0][0] < fleet.now - self._goals.scale_down_after:
            self._needs.popleft()
        wanted = math.ceil(filled / _BUSY)
        if wanted > fleet.target:
            return self._to(
                fleet, wanted, Reason.WAKE if fleet.target == 0 else Reason.CONCURRENCY, f"{in_flight} in flight"
            )
        if self._may_sleep(fleet, in_flight):
            return self._to(fleet, fleet.target - 1, Reason.IDLE, "idle")
        if self._has_spare(fleet):
            return self._to(fleet, fleet.target - 1, Reason.SPARE, "one fewer is enough")
        return self._to(fleet, fleet.target, Reason.STEADY, f"{in_flight} in flight")

    def _may_sleep(self, fleet: Fleet, in_flight: int) -> bool:
        after = self._goals.scale_to_zero_after
        if after is None or fleet.minimum > 0 or fleet.target == 0 or in_flight or fleet.starting:
            return False
        return self._busy_at is not None and fleet.now - self._busy_at >= after

    def _has_spare(self, fleet: Fleet) -> bool:
        if fleet.target <= max(1, fleet.minimum) or fleet.starting or len(fleet.replicas) < fleet.running:
            return False
        if fleet.now - max(self._changed_at, self._needs[0][0]) < self._goals.scale_down_after * 0.9:
            return False
        return max(filled for _, filled in self._needs) <= _SPARE * (fleet.target - 1)

    def _to(self, fleet: Fleet, wanted: int, reason: Reason, detail: str) -> Decision:
        replicas = min(max(wanted, fleet.minimum), fleet.maximum)
        if replicas != fleet.target:
            self._changed_at = fleet.now
        return Decision(replicas, reason if replicas == wanted else Reason.BOUNDS, detail, wanted)
