"""The decision: from what a fleet reports to how many replicas it should have, and why.

Up: as many as the load needs (requests in flight, tokens a second, prompts waiting, KV cache, against what one replica
can do), at once; replicas that start count as capacity on its way. A queue that stands, or a goal that is missed, adds
more than the load alone would. Down: one at a time, when the smaller fleet would have been well within its capacity for
a whole window. To zero: after idling, where that is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from serving.scaling.history import Peak, Smoothed, Spending, Standing, Trend
from serving.scaling.load import Load, Resource
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
    """replicas: within bounds and budget. wanted: what the load asks for, these aside. detail: for people.

    missed: a goal is missed and the fleet is busy, so that more replicas would help.
    """

    replicas: int
    reason: Reason
    detail: str
    wanted: int = 0
    missed: bool = False


_BUSY: dict[Resource, float] = {"concurrency": 0.8, "tokens": 0.7, "prefill": 0.7, "kv_cache": 0.85}
"""The part of a replica's capacity that is used before another is asked for."""
_SPARE = 0.6
"""What may fill a smaller fleet for a fleet to become smaller. The gap to _BUSY keeps it from flapping."""
_HELPS = 0.5
"""A goal that is missed by a fleet that is less busy is not missed for want of replicas."""
_TOLERANCE = 0.05
_SMOOTH_SECONDS = 10.0
_QUEUE_SECONDS = 2.0
_QUEUE_SHARE = 0.1
_MISSED_SECONDS = 5.0
_SETTLE_SECONDS = 30.0
"""From a change until times to first token speak of the fleet as it is now; and between two steps down."""
_TREND_SECONDS = 60.0
_FURTHEST = 2.0
"""Times the load that a forecast may at most be."""


class Scaling:
    """The rule for one deployment. It remembers the last minutes, and what was spent; time comes from fleet.now."""

    def __init__(self, goals: Goals, profile: CapacityProfile, spending: Spending | None = None) -> None:
        self._goals = goals
        self._profile = profile
        self._smoothed: dict[Resource, Smoothed] = {name: Smoothed(_SMOOTH_SECONDS) for name in _BUSY}
        self._peak = Peak(goals.scale_down_after)
        self._trend = Trend(_TREND_SECONDS)
        self._queue = Standing()
        self._miss = Standing()
        self._spending = spending or Spending()
        self._began: float | None = None
        self._needed_at = -math.inf
        """When the fleet was last asked to grow, or needed all that it had."""
        self._changed_at = -math.inf
        """When a replica was last asked for, came or went."""
        self._busy_at = -math.inf
        self._seen = (0, 0)
        self._highest = 0.0

    def decide(self, fleet: Fleet) -> Decision:
        self._note_changes(fleet)
        spent = self._spending.add(fleet.now, fleet.running + fleet.starting)
        if fleet.running and not fleet.replicas:
            return self._bounded(fleet, fleet.target, Reason.BLIND, f"none of {fleet.running} replicas reports", spent)
        load = Load.of(tuple(fleet.replicas), running=fleet.running, held=fleet.held)
        filled = self._filled(fleet, load)
        missed = self._missed(fleet, load, filled)
        wanted, reason, detail = self._wanted(fleet, load, filled, missed=missed is not None)
        if wanted <= fleet.target:
            wanted, reason, detail = self._smaller(fleet, load, detail)
        return self._bounded(
            fleet, wanted, reason, detail if missed is None else f"{detail}; {missed}", spent, missed is not None
        )

    def _note_changes(self, fleet: Fleet) -> None:
        self._began = fleet.now if self._began is None else self._began
        seen = (fleet.running, fleet.target)
        if seen != self._seen or fleet.starting:
            self._changed_at = fleet.now
        if fleet.target > self._seen[1]:
            self._needed_at = fleet.now
        self._seen = seen

    def _filled(self, fleet: Fleet, load: Load) -> dict[Resource, float]:
        """By resource, smoothed; and remembered."""
        raw = load.filled(self._profile, self._goals.ttft_p95)
        filled = {name: self._smoothed[name].add(fleet.now, value) for name, value in raw.items()}
        self._highest = self._peak.add(fleet.now, max(filled.values()))
        self._trend.add(fleet.now, max(value / _BUSY[name] for name, value in filled.items()))
        # A request for each replica: at any moment one or the other is about to be let in, in a fleet that is well.
        self._queue.add(fleet.now, load.waiting >= max(1, fleet.running, _QUEUE_SHARE * load.running))
        if load.in_flight or self._busy_at == -math.inf:
            self._busy_at = fleet.now
        return filled

    def _missed(self, fleet: Fleet, load: Load, filled: dict[Resource, float]) -> str | None:
        """Which goal is missed for want of replicas."""
        busy = max(filled.values()) >= _HELPS * max(1, fleet.running) or load.waiting >= 1
        times = {"TTFT": (load.ttft_p95, self._goals.ttft_p95), "TPOT": (load.tpot_p95, self._goals.tpot_p95)}
        missed = [
            f"{name} p95 {seen:.2f} s, goal {goal:g} s"
            for name, (seen, goal) in times.items()
            if seen is not None and goal is not None and seen > goal
        ]
        self._miss.add(fleet.now, bool(missed) and busy and load.in_flight >= 1)
        return ", ".join(missed) if self._miss.has_stood(fleet.now, _MISSED_SECONDS) else None

    def _wanted(
        self, fleet: Fleet, load: Load, filled: dict[Resource, float], *, missed: bool
    ) -> tuple[int, Reason, str]:
        """The most that anything asks for. Equal: the first reason."""
        needs = {name: filled[name] / _BUSY[name] for name in filled}
        most = max(needs, key=needs.__getitem__)
        said = f"{load.in_flight:.0f} in flight ({load.waiting:.0f} waiting), {load.decode_rate:.0f} tokens/s"
        asked = [(_whole(needs[most]), Reason(most), f"{said}: {most} fills {filled[most]:.1f} replicas")]
        if fleet.target == 0 and load.waiting:
            asked.append((max(1, _whole(needs["concurrency"])), Reason.WAKE, f"{load.waiting:.0f} wait for a replica"))
        elif self._queue.has_stood(fleet.now, _QUEUE_SECONDS):
            now = load.filled(self._profile, self._goals.ttft_p95)
            need = max(_whole(value / _BUSY[name]) for name, value in now.items())
            step = fleet.target + 1 if self._has_settled(fleet) else 0
            asked.append((max(need, step), Reason.QUEUE, f"{load.waiting:.0f} of {load.in_flight:.0f} requests wait"))
        if missed and self._has_settled(fleet):
            asked.append((fleet.target + 1, Reason.GOAL, said))
        if growth := self._trend.growth():
            later = min(needs[most] + growth * self._profile.start_seconds, _FURTHEST * needs[most])
            if needs[most] >= _HELPS * fleet.target:
                text = f"{said}: grows to {later:.1f} replicas within {self._profile.start_seconds:.0f} s"
                asked.append((_whole(later), Reason.FORECAST, text))
        return max(asked, key=lambda one: one[0])

    def _has_settled(self, fleet: Fleet) -> bool:
        return fleet.starting == 0 and fleet.now - self._changed_at >= _SETTLE_SECONDS

    def _smaller(self, fleet: Fleet, load: Load, detail: str) -> tuple[int, Reason, str]:
        """One fewer, none, or as it is."""
        window, now = self._goals.scale_down_after, fleet.now
        if self._queue.has_stood(now, 0.0) or self._miss.has_stood(now, 0.0):
            self._needed_at = now
        stable = fleet.starting == 0 and fleet.running == fleet.target and len(fleet.replicas) == fleet.running
        if not stable or fleet.target == 0:
            return fleet.target, Reason.STEADY, detail
        if fleet.target == 1:
            after = self._goals.scale_to_zero_after
            idle = now - self._busy_at
            if after is not None and fleet.minimum == 0 and idle >= after:
                return 0, Reason.IDLE, f"no request for {idle:.0f} s"
            return 1, Reason.STEADY, detail
        if self._highest > _SPARE * (fleet.target - 1):
            return fleet.target, Reason.STEADY, detail
        watched = now - max(self._needed_at, -math.inf if self._began is None else self._began)
        text = f"at most {self._highest:.1f} replicas were filled in {window:.0f} s"
        if watched < window or now - self._changed_at < min(window, _SETTLE_SECONDS):
            return (
                fleet.target,
                Reason.WAITING,
                f"{detail}; {min(watched, window):.0f} of {window:.0f} s with one to spare",
            )
        return fleet.target - 1, Reason.SPARE, text

    def _bounded(
        self, fleet: Fleet, wanted: int, reason: Reason, detail: str, spent: float, missed: bool = False
    ) -> Decision:
        budget = self._goals.replica_hours_a_day
        least, most = fleet.minimum, fleet.maximum
        if budget is not None and spent >= budget:
            # One at a time, as every step down.
            kept = fleet.target if fleet.now - self._changed_at < _SETTLE_SECONDS else fleet.target - 1
            most = min(most, max(1, least, min(wanted, kept)))
            if most < wanted:
                text = f"{detail}; {spent:.1f} of {budget:g} replica-hours are spent"
                return Decision(most, Reason.BUDGET, text, wanted, missed)
        replicas = min(max(wanted, least), most)
        if replicas != wanted:
            return Decision(replicas, Reason.BOUNDS, f"{detail}; {wanted} wanted of {least} to {most}", wanted, missed)
        return Decision(replicas, reason, detail, wanted, missed)


def _whole(need: float) -> int:
    """So many replicas; a little above a whole number does not ask for another."""
    return math.ceil(need - _TOLERANCE)
