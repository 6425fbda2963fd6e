"""The scaling rule inside Ray Serve's controller: from Serve's context to a Fleet, and the decision back.

The controller runs the cluster, so this imports nothing heavy and never raises: a fault leaves the fleet as it is.
Serve takes the class by its name and pickles this module by value; what it imports is imported where the controller is.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from serving.deployments import scaling_state
from serving.scaling.decision import Decision, Fleet, Goals, Reason, Scaling
from serving.scaling.history import Spending
from serving.scaling.profile import CapacityProfile
from serving.scaling.signals import NAMES, ReplicaSignals
from serving.scaling.told import Change, Told

_SILENT_SECONDS = 10.0
"""A replica that has not reported for so long is not counted on."""
_TOLD_EVERY = 2.0
_KEPT = 20
"""Changes that are told."""


class SloPolicy:
    """One for each deployment, made by Serve from the keyword arguments that serving/fleets.py gave it."""

    def __init__(self, deployment: str, goals: dict[str, float | None], profile: dict[str, float]) -> None:
        self._deployment = deployment
        before = _told_before(deployment)
        self._changes = dict(before.changes) if before else {}
        self._latest = list(before.latest) if before else []
        self._spending = Spending(before.spent if before else ())
        self._scaling = Scaling(Goals(**goals), CapacityProfile(**profile), self._spending)  # type: ignore[arg-type]
        self._told_at = 0.0
        self._decided: int | None = before.target if before else None
        self._faulty = False

    def __call__(self, context: Any) -> tuple[int, dict[str, Any]]:
        """Serve asks at each turn of its loop."""
        try:
            fleet = fleet_of(context)
            decision = self._scaling.decide(fleet)
        except Exception as error:  # the controller must go on, and so must the fleet
            self._complain(error)
            return context.target_num_replicas, {}
        try:
            self._tell(fleet, decision)
            self._faulty = False
        except Exception as error:  # what cannot be told can still be done
            self._complain(error)
        return decision.replicas, {}

    def _note(self, change: Change) -> None:
        _log().warning(
            "scaling of %s: %d to %d replicas, %s: %s",
            self._deployment, change.before, change.after, change.reason, change.detail,
        )  # fmt: skip
        self._changes[change.reason] = self._changes.get(change.reason, 0) + 1
        self._latest = [*self._latest, change][-_KEPT:]

    def _complain(self, error: Exception) -> None:
        """Once: the loop turns twice a second."""
        if not self._faulty:
            _log().error("scaling of %s: %s: %s", self._deployment, type(error).__name__, error)
        self._faulty = True

    def _tell(self, fleet: Fleet, decision: Decision) -> None:
        """A change into the log; and for gateways, which may be on other nodes, what is known."""
        if self._decided == 0 and fleet.target > 0:
            # Serve itself wakes a deployment that has requests and no replica, and asks again when one runs.
            self._note(Change(fleet.now, 0, fleet.target, Reason.WAKE, "requests waited for a replica"))
        self._decided = decision.replicas
        changed = decision.replicas != fleet.target
        if changed:
            self._note(Change(fleet.now, fleet.target, decision.replicas, decision.reason, decision.detail))
        if changed or fleet.now - self._told_at >= _TOLD_EVERY:
            self._told_at = fleet.now
            scaling_state.write(
                self._deployment,
                Told(
                    at=fleet.now,
                    running=fleet.running,
                    starting=fleet.starting,
                    target=decision.replicas,
                    wanted=decision.wanted,
                    minimum=fleet.minimum,
                    maximum=fleet.maximum,
                    reason=decision.reason,
                    detail=decision.detail,
                    missed=decision.missed,
                    changes=dict(self._changes),
                    latest=tuple(self._latest),
                    spent=tuple(self._spending.steps),
                ),
            )


def _told_before(deployment: str) -> Told | None:
    """By the policy that this one replaces, or before the controller was restarted."""
    try:
        return scaling_state.read(deployment)
    except Exception as error:  # a deployment must come up without it, and after an upgrade that tells otherwise
        _log().warning("scaling of %s begins anew: %s", deployment, type(error).__name__)
        return None


def _log() -> logging.Logger:
    """Serve's own, which the controller writes to its log file."""
    return logging.getLogger("ray.serve")


def fleet_of(context: Any) -> Fleet:
    """From Serve's AutoscalingContext.

    Requests that wait at handles are those that are held: all others go past handles, straight to a replica's port.
    """
    running, target = context.current_num_replicas, context.target_num_replicas
    return Fleet(
        now=context.current_time,
        replicas=signals_in(context.raw_metrics or {}, context.current_time),
        running=running,
        starting=max(0, target - running),
        target=target,
        held=math.ceil(context.total_queued_requests or 0),
        minimum=context.capacity_adjusted_min_replicas,
        maximum=context.capacity_adjusted_max_replicas,
    )


def signals_in(metrics: Mapping[str, Mapping[Any, Any]], now: float) -> tuple[ReplicaSignals, ...]:
    """The last word of each replica that has said something lately. metrics: by name and replica, points in time."""
    latest: dict[Any, dict[str, float]] = {}
    for name in NAMES & metrics.keys():
        for replica, points in metrics[name].items():
            if points and now - points[-1].timestamp <= _SILENT_SECONDS:
                latest.setdefault(replica, {})[name] = points[-1].value
    return tuple(ReplicaSignals.from_numbers(numbers) for numbers in latest.values())
