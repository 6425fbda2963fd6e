"""The decision: from what a fleet reports to how many replicas it should have, and why.

Up: as many as the load needs (requests in flight, tokens a second, prompts waiting, KV cache, against what one replica
can do), smoothed while a fleet gets busy and at once when it is full; replicas that start count as capacity on its way.
A queue that stands, or a goal that is missed, adds one where the profile sees no need. Down: one at a time, when the
smaller fleet would have been well within its capacity for a whole window. To zero: after idling, where it is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from serving.scaling.history import Patience, Peak, Smoothed, Spending, Standing, TooMuch, Trend
from serving.scaling.load import Load, Resource
from serving.scaling.profile import CapacityProfile
from serving.scaling.signals import ReplicaSignals


class Reason(StrEnum):
    """Why a fleet is to have so many replicas. A closed set: metrics are labelled with it."""

    STEADY = "steady"
    """The fleet fits its load."""
    WAITING = "waiting"
    """One fewer would do, but not for a whole window yet."""
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


_BUSY: dict[Resource, float] = {"concurrency": 0.8, "tokens": 0.85, "prefill": 0.7, "kv_cache": 0.85}
"""The part of a replica's capacity that is used before another is asked for."""
_SPARE = 0.6
"""What may fill a smaller fleet for a fleet to become smaller. The gap to _BUSY keeps it from flapping."""
_HELPS = 0.5
"""A goal that is missed by a fleet that is less busy is not missed for want of replicas."""
_TOLERANCE = 0.05
_SLOW_SECONDS, _FAST_SECONDS = 30.0, 10.0
"""A fleet is busy that is so on both averages: not for a moment, and not because it was. A full one is not averaged."""
_FULL_SECONDS = 2.0
_QUEUE_SHARE = 0.1
_MISSED_SECONDS = 5.0
_SETTLE_SECONDS = 30.0
"""From a change until times to first token speak of the fleet as it is now; and between two steps down."""
_TREND_SECONDS = 60.0
_FURTHEST = 2.0
"""Times the load that a forecast may at most be."""
_TIMES, _MORE = 2, 4
"""A fleet at most becomes so many times as large, or has so many more, before the new ones serve: meanwhile what waits
piles up, and a pile says how long it has grown, not how much comes."""
_LONGEST = 8.0
"""Times scale_down_after, for which peaks are remembered: Patience waits no longer."""


@dataclass(frozen=True, slots=True)
class _View:
    """A fleet and what its load comes to. filled: by resource, as it is; smooth: the lower of the averages."""

    fleet: Fleet
    load: Load
    filled: dict[Resource, float]
    smooth: dict[Resource, float]

    @property
    def said(self) -> str:
        load = self.load
        return f"{load.in_flight:.0f} in flight ({load.waiting:.0f} waiting), {load.decode_rate:.0f} tokens/s"


Ask = tuple[int, Reason, str]


class Scaling:
    """The rule for one deployment. It remembers the last minutes, and what was spent; time comes from fleet.now."""

    def __init__(self, goals: Goals, profile: CapacityProfile, spending: Spending | None = None) -> None:
        self._goals = goals
        self._profile = profile
        self._slow: dict[Resource, Smoothed] = {name: Smoothed(_SLOW_SECONDS) for name in _BUSY}
        self._fast: dict[Resource, Smoothed] = {name: Smoothed(_FAST_SECONDS) for name in _BUSY}
        self._trend = Trend(_TREND_SECONDS)
        self._full, self._queue, self._miss = Standing(), Standing(), Standing()
        self._filled_peak = Peak(_LONGEST * goals.scale_down_after)
        self._in_flight = Smoothed(_FAST_SECONDS)
        self._in_flight_peak = Peak(_LONGEST * goals.scale_down_after)
        self._patience = Patience()
        self._too_much = TooMuch()
        self._spending = spending or Spending()
        self._needed_at: float | None = None
        """When the fleet last grew or was full, or this began to look."""
        self._changed_at = -math.inf
        """When a replica was last asked for, came or went."""
        self._busy_at = -math.inf
        self._seen = (0, 0)

    def decide(self, fleet: Fleet) -> Decision:
        self._note_changes(fleet)
        spent = self._spending.add(fleet.now, fleet.running + fleet.starting)
        if fleet.running and not fleet.replicas:
            blind = (fleet.target, Reason.BLIND, f"none of {fleet.running} replicas reports")
            return self._bounded(fleet, blind, spent)
        view = self._look(fleet)
        missed = self._missed(view)
        ask = self._more(view, missed)
        if ask[0] <= fleet.target:
            ask = self._fewer(view, ask[2])
        return self._bounded(fleet, ask, spent, missed)

    def _note_changes(self, fleet: Fleet) -> None:
        running, target = self._seen
        self._needed_at = fleet.now if self._needed_at is None else self._needed_at
        if (fleet.running, fleet.target) != self._seen:
            self._changed_at = fleet.now
        if fleet.running and not running:
            self._busy_at = fleet.now  # woken, and perhaps not by us: Serve asks nobody while nothing runs
        if fleet.target > target:
            self._needed_at = fleet.now
            self._patience.grew(fleet.now, self._goals.scale_down_after)
        elif fleet.target < target:
            self._patience.shrank(fleet.now)
        self._seen = (fleet.running, fleet.target)

    def _look(self, fleet: Fleet) -> _View:
        """What there is, and what is to be remembered of it."""
        now, load = fleet.now, Load.of(tuple(fleet.replicas), running=fleet.running, held=fleet.held)
        filled = dict(load.filled(self._profile, self._goals.ttft_p95))
        slow = {name: self._slow[name].add(now, value) for name, value in filled.items()}
        fast = {name: self._fast[name].add(now, value) for name, value in filled.items()}
        self._filled_peak.add(now, max(fast.values()))
        self._in_flight_peak.add(now, self._in_flight.add(now, load.in_flight))
        self._trend.add(now, max(value / _BUSY[name] for name, value in fast.items()))
        # A request for each replica: at any moment one or the other is about to be let in, in a fleet that is well.
        self._queue.add(now, load.waiting >= max(1, fleet.running, _QUEUE_SHARE * load.running))
        self._full.add(now, max(filled.values()) >= max(1, fleet.target))
        if load.in_flight or self._busy_at == -math.inf:
            self._busy_at = now
        return _View(fleet, load, filled, {name: min(slow[name], fast[name]) for name in filled})

    def _missed(self, view: _View) -> str:
        """Which goal is missed for want of replicas; empty for none."""
        load, goals = view.load, self._goals
        times = {"TTFT": (load.ttft_p95, goals.ttft_p95), "TPOT": (load.tpot_p95, goals.tpot_p95)}
        missed = [
            f"{name} p95 {seen:.2f} s, goal {goal:g} s"
            for name, (seen, goal) in times.items()
            if seen is not None and goal is not None and seen > goal
        ]
        busy = load.waiting >= 1 or max(view.smooth.values()) >= _HELPS * max(1, view.fleet.running)
        self._miss.add(view.fleet.now, bool(missed) and busy and load.in_flight >= 1)
        return ", ".join(missed) if self._miss.has_stood(view.fleet.now, _MISSED_SECONDS) else ""

    def _more(self, view: _View, missed: str) -> Ask:
        """The most that anything asks for; of equals the first. Nothing does where nobody waits for an answer: averages
        fall slower, and would wake who has just gone to sleep.
        """
        fleet, asks = view.fleet, list[Ask]()
        if not view.load.in_flight:
            return 0, Reason.STEADY, view.said
        if fleet.target == 0 and view.load.waiting:
            need = _whole(view.filled["concurrency"] / _BUSY["concurrency"])
            asks.append((max(1, need), Reason.WAKE, f"{view.load.waiting:.0f} wait for a replica"))
        asks += [self._for_load(view.smooth, view), *self._for_trouble(view, missed), *self._for_growth(view)]
        return max(asks, key=lambda ask: ask[0])

    def _for_load(self, filled: dict[Resource, float], view: _View) -> Ask:
        most = max(filled, key=lambda name: filled[name] / _BUSY[name])
        need = _whole(filled[most] / _BUSY[most])
        return need, Reason(most), f"{view.said}: {most} fills {filled[most]:.1f} replicas"

    def _for_trouble(self, view: _View, missed: str) -> list[Ask]:
        """At once what a full fleet needs; and one more, now and then, where the profile does not see the trouble."""
        fleet, now = view.fleet, view.fleet.now
        asks, queue = [], self._queue.has_stood(now, _FULL_SECONDS)
        if fleet.running and (queue or self._full.has_stood(now, _FULL_SECONDS)):
            self._needed_at = now
            need, reason, said = self._for_load(view.filled, view)
            asks.append((need, Reason.QUEUE if queue else reason, said))
        settled = fleet.starting == 0 and now - self._changed_at >= _SETTLE_SECONDS
        if fleet.running and settled and (queue or missed):
            self._needed_at = now
            self._too_much.seen(now, view.load.in_flight / fleet.running)
            asks.append((fleet.target + 1, Reason.QUEUE if queue else Reason.GOAL, view.said))
        return asks

    def _for_growth(self, view: _View) -> list[Ask]:
        """What the load will need by the time that a replica could be up."""
        need, start = max(value / _BUSY[name] for name, value in view.smooth.items()), self._profile.start_seconds
        growth = self._trend.growth()
        if not growth or need < _HELPS * view.fleet.target:
            return []
        later = min(need + growth * start, _FURTHEST * need)
        return [(_whole(later), Reason.FORECAST, f"{view.said}: grows to {later:.1f} replicas within {start:.0f} s")]

    def _fewer(self, view: _View, said: str) -> Ask:
        """One fewer, none, or as it is."""
        fleet, now, target = view.fleet, view.fleet.now, view.fleet.target
        stays = (target, Reason.STEADY, said)
        # Not of those that start: where they find no place, that would be for ever.
        if target == 0 or fleet.running > target or len(fleet.replicas) < fleet.running:
            return stays
        if target == 1:
            after, idle = self._goals.scale_to_zero_after, now - self._busy_at
            sleeps = after is not None and fleet.minimum == 0 and idle >= after
            return (0, Reason.IDLE, f"no request for {idle:.0f} s") if sleeps else stays
        if target <= fleet.minimum:
            return stays
        window = self._goals.scale_down_after * self._patience.at(now)
        filled, in_flight = self._filled_peak.since(now - window), self._in_flight_peak.since(now - window)
        if max(filled, in_flight / self._too_much.at(now)) > _SPARE * (target - 1):
            return target, Reason.STEADY, f"{said}; up to {filled:.1f} were filled in the last {window:.0f} s"
        watched = now - (self._needed_at or 0.0)
        if watched < window or now - self._changed_at < min(window, _SETTLE_SECONDS):
            return target, Reason.WAITING, f"{said}; one to spare for {min(watched, window):.0f} of {window:.0f} s"
        return target - 1, Reason.SPARE, f"{said}; at most {filled:.1f} replicas were filled in {window:.0f} s"

    def _bounded(self, fleet: Fleet, ask: Ask, spent: float, missed: str = "") -> Decision:
        wanted, reason, detail = ask
        detail = f"{detail}; {missed}" if missed else detail
        budget, most = self._goals.replica_hours_a_day, fleet.maximum
        if fleet.running:
            most = min(most, max(fleet.target, _TIMES * fleet.running, fleet.running + _MORE))
        if budget is not None and spent >= budget:
            settled = fleet.now - self._changed_at >= _SETTLE_SECONDS  # one at a time, as every step down
            most = min(most, max(1, fleet.minimum, fleet.target - 1 if settled else fleet.target))
            if most < wanted:
                detail = f"{detail}; {spent:.1f} of {budget:g} replica-hours are spent"
                return Decision(most, Reason.BUDGET, detail, wanted, bool(missed))
        replicas = min(max(wanted, fleet.minimum), most)
        if replicas != wanted:
            detail = f"{detail}; {wanted} wanted of {fleet.minimum} to {most}"
            reason = Reason.BOUNDS if replicas == fleet.target or wanted < replicas else reason
        return Decision(replicas, reason, detail, wanted, bool(missed))


def _whole(need: float) -> int:
    """So many replicas; a little above a whole number does not ask for another."""
    return math.ceil(need - _TOLERANCE)
