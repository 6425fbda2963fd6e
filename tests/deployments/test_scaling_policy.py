"""The policy in Serve's controller: what it reads of Serve's context, what it tells, and that nothing stops it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import pytest

from serving.deployments import scaling_policy, scaling_state
from serving.deployments.scaling_policy import SloPolicy, fleet_of, signals_in
from serving.scaling.signals import ReplicaSignals
from serving.scaling.told import Told


@dataclass
class Point:
    timestamp: float
    value: float


@dataclass
class Context:
    """As much of Serve's AutoscalingContext as is read."""

    current_time: float = 1000.0
    current_num_replicas: int = 1
    target_num_replicas: int = 1
    capacity_adjusted_min_replicas: int = 0
    capacity_adjusted_max_replicas: int = 4
    total_queued_requests: float = 0.0
    raw_metrics: dict[str, dict[str, list[Point]]] = field(default_factory=dict)


def reports(at: float, **replicas: ReplicaSignals) -> dict[str, dict[str, list[Point]]]:
    found: dict[str, dict[str, list[Point]]] = {"running_requests": {}}
    for replica, signals in replicas.items():
        for name, value in signals.to_numbers().items():
            found.setdefault(name, {})[replica] = [Point(at - 1, -1.0), Point(at, value)]
    return found


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, Told]:
    kept: dict[str, Told] = {}
    monkeypatch.setattr(scaling_state, "read", kept.get)
    monkeypatch.setattr(scaling_state, "write", kept.__setitem__)
    return kept


def policy(**goals: float | None) -> SloPolicy:
    return SloPolicy("notes", {"ttft_p95": 2.0} | goals, {"concurrency": 4.0, "start_seconds": 1.0})


def test_the_last_word_of_each_replica_counts_and_an_old_one_does_not() -> None:
    one, other = ReplicaSignals(running=3, ttft_p95=0.4), ReplicaSignals(waiting=2)
    heard = reports(1000.0, one=one, other=other)
    assert set(signals_in(heard, 1003.0)) == {one, other}
    assert signals_in(heard, 1011.0) == ()


def test_a_fleet_is_read_from_what_serve_knows() -> None:
    context = Context(current_num_replicas=1, target_num_replicas=3, total_queued_requests=1.6)
    context.raw_metrics = reports(1000.0, one=ReplicaSignals(running=3))
    fleet = fleet_of(context)
    assert (fleet.running, fleet.starting, fleet.target, fleet.held) == (1, 2, 3, 2)
    assert (fleet.minimum, fleet.maximum, len(fleet.replicas)) == (0, 4, 1)


def test_a_change_is_logged_with_its_reason_and_told(store: dict[str, Told], caplog: pytest.LogCaptureFixture) -> None:
    scaler, context = policy(), Context(raw_metrics=reports(1000.0, one=ReplicaSignals(running=4, waiting=6)))
    with caplog.at_level(logging.WARNING, logger="ray.serve"):
        replicas, _ = scaler(context)
    assert replicas == 4
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("scaling of notes: 1 to 4 replicas, concurrency: 10 in flight (6 waiting)")
    told = store["notes"]
    assert (told.target, told.reason, told.changes) == (4, "concurrency", {"concurrency": 1})
    assert (told.latest[0].before, told.latest[0].after) == (1, 4)


def test_a_new_policy_goes_on_with_what_the_old_one_told(store: dict[str, Told]) -> None:
    for at in (1000.0, 2000.0):
        policy()(Context(current_time=at, raw_metrics=reports(at, one=ReplicaSignals(running=9))))
    assert store["notes"].changes == {"concurrency": 2} and len(store["notes"].latest) == 2


def test_that_serve_woke_a_deployment_is_told_as_well(store: dict[str, Told]) -> None:
    scaler = policy()
    assert scaler(Context(current_num_replicas=0, target_num_replicas=0))[0] == 0
    awake = Context(current_time=1020.0, raw_metrics=reports(1020.0, one=ReplicaSignals(running=1)))
    assert scaler(awake)[0] == 1
    (change,) = store["notes"].latest
    assert (change.before, change.after, change.reason) == (0, 1, "wake")


def test_what_cannot_be_told_is_done_all_the_same(monkeypatch: pytest.MonkeyPatch, store: dict[str, Told]) -> None:
    def away(*args: object) -> None:
        raise RuntimeError("the store is away")

    scaler = policy()
    monkeypatch.setattr(scaling_state, "write", away)
    assert scaler(Context(raw_metrics=reports(1000.0, one=ReplicaSignals(running=9))))[0] == 3


def test_a_fault_leaves_the_fleet_as_it_is_and_is_logged_once(
    store: dict[str, Told], caplog: pytest.LogCaptureFixture
) -> None:
    broken: Any = Context(target_num_replicas=3, raw_metrics={"running": {"one": ["no point"]}})  # type: ignore[dict-item,list-item]
    scaler = policy()
    assert [scaler(broken)[0] for _ in range(5)] == [3] * 5
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1


def test_serve_can_take_the_policy_by_its_name() -> None:
    serve_config: Any = pytest.importorskip("ray.serve.config")
    path = f"{scaling_policy.__name__}:{SloPolicy.__name__}"
    policy = serve_config.AutoscalingPolicy(policy_function=path, policy_kwargs={"deployment": "a"})
    assert policy.get_policy().__name__ == "SloPolicy"
