"""The policies that are compared, behind one protocol: from what a controller can know to a number of replicas."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from serving.scaling.decision import Fleet, Goals, Scaling
from serving.scaling.profile import CapacityProfile
from serving.scaling.signals import ReplicaSignals


@dataclass(frozen=True)
class View:
    """What the controller knows. reports: the last of each running replica, as old as they are.

    ongoing: requests in flight, averaged over the look-back, as Ray's controller does it. waiting: the reports' sum.
    """

    now: float
    reports: Sequence[ReplicaSignals]
    ongoing: float
    running: int
    starting: int
    target: int
    held: int
    minimum: int
    maximum: int


class Policy(Protocol):
    """knows_all: sees the future, and its replicas start at once. A bound, not a policy."""

    knows_all: bool

    def target(self, view: View) -> int:
        """How many replicas there should be; the caller keeps it within the bounds."""
        ...


@dataclass
class Ours:
    """The very class that production runs."""

    goals: Goals
    profile: CapacityProfile
    knows_all: bool = False

    def __post_init__(self) -> None:
        self._rule = Scaling(self.goals, self.profile)

    def target(self, view: View) -> int:
        decision = self._rule.decide(
            Fleet(
                now=view.now,
                replicas=view.reports,
                running=view.running,
                starting=view.starting,
                target=view.target,
                held=view.held,
                minimum=view.minimum,
                maximum=view.maximum,
            )
        )
        return decision.replicas


class RayDefault:
    """Ray Serve's own default policy and its delays: Ray's functions, called as its wrapper does, on our clock.

    They are private but for the policy; a test holds this composition against Ray's wrapper.
    """

    knows_all = False

    def __init__(self, ongoing: float, minimum: int, maximum: int, **config: float) -> None:
        from ray.serve import autoscaling_policy
        from ray.serve.config import AutoscalingConfig, AutoscalingContext

        self._ray = autoscaling_policy
        self._context = AutoscalingContext
        self._config = AutoscalingConfig(
            target_ongoing_requests=ongoing, min_replicas=minimum, max_replicas=maximum, **config
        )
        self._state: dict[str, Any] = {}

    def target(self, view: View) -> int:
        desired, state = self._ray.replica_queue_length_autoscaling_policy(self.context(view))
        if view.running == 0:
            return int(desired)
        scaled = self._ray._apply_scaling_factors(desired, view.running, self._config)
        target, self._state = self._ray._apply_delay_logic(
            max(0, scaled), view.target, self._config, {**self._state, **state}, _now=view.now
        )
        return int(target)

    def context(self, view: View) -> Any:
        """As Ray's controller would give it."""
        return self._context(
            deployment_id=None,
            deployment_name="simulated",
            app_name=None,
            current_num_replicas=view.running,
            target_num_replicas=view.target,
            running_replicas=[],
            total_num_requests=view.ongoing,
            total_queued_requests=0.0,
            aggregated_metrics=None,
            raw_metrics=None,
            capacity_adjusted_min_replicas=view.minimum,
            capacity_adjusted_max_replicas=view.maximum,
            policy_state=self._state,
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=view.now,
            config=self._config,
        )


class QueueThreshold:
    """KEDA's way: Kubernetes' autoscaler on requests that wait, per replica, and on the KV cache's use.

    KEDA asks every 30 s. The autoscaler acts every 15 s, takes the larger of the two wishes, leaves 10 % alone, at most
    doubles the fleet (or adds four) in 15 s, and goes down to the largest wish of the last 300 s: its defaults.
    """

    knows_all = False
    _POLL, _SYNC, _TOLERANCE, _STABLE = 30.0, 15.0, 0.1, 300.0

    def __init__(self, waiting: float, kv_cache: float = 0.8) -> None:
        self._waiting = waiting
        self._kv_cache = kv_cache
        self._polled = self._synced = -math.inf
        self._wishes: deque[tuple[float, int]] = deque()
        self._seen = (0.0, 0.0)

    def target(self, view: View) -> int:
        if view.now - self._polled >= self._POLL:
            self._polled = view.now
            used = [report.kv_cache for report in view.reports]
            waiting = sum(report.waiting for report in view.reports) + view.held
            self._seen = (waiting / self._waiting, sum(used) / self._kv_cache)
        if view.now - self._synced < self._SYNC:
            return view.target
        self._synced = view.now
        wish, now_have = max(self._seen), max(1, view.target)
        near = abs(wish / now_have - 1) <= self._TOLERANCE
        self._wishes.append((view.now, now_have if near else math.ceil(wish)))
        while self._wishes[0][0] < view.now - self._STABLE:
            self._wishes.popleft()
        last = self._wishes[-1][1]
        if last >= view.target:
            return min(last, max(2 * view.target, view.target + 4))
        return min(view.target, max(wanted for _, wanted in self._wishes))


@dataclass
class Static:
    """So many, always."""

    replicas: int
    knows_all: bool = False

    def target(self, view: View) -> int:
        return self.replicas


@dataclass
class Oracle:
    """Knows every request that is to come and what it will cost, and has its replicas at once.

    needs: replicas that the load fills, each STEP seconds. It has the most of the next AHEAD seconds, and its share of
    spare ones.
    """

    needs: Sequence[float]
    spare: float
    knows_all: bool = True
    STEP, AHEAD = 5.0, 30.0

    def target(self, view: View) -> int:
        first = int(view.now / self.STEP)
        ahead = self.needs[first : first + int(self.AHEAD / self.STEP) + 1]
        return math.ceil(max(ahead, default=0.0) * (1 + self.spare))
