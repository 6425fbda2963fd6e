"""The scaling rule, on imagined fleets: no Ray, no clock."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.scaling.decision import Decision, Fleet, Goals, Reason, Scaling
from serving.scaling.profile import CapacityProfile
from serving.scaling.signals import ReplicaSignals
from tests.scaling.fleets import Imagined

PROFILE = CapacityProfile(prefill_rate=10_000, decode_rate=1000, concurrency=10, start_seconds=5)
GOALS = Goals(ttft_p95=2.0, scale_to_zero_after=60, scale_down_after=120)


def scaling(profile: CapacityProfile = PROFILE, **goals: float | None) -> Scaling:
    return Scaling(Goals(**({"ttft_p95": 2.0, "scale_down_after": 120} | goals)), profile)  # type: ignore[arg-type]


def constant(value: float):  # type: ignore[no-untyped-def]
    return lambda now: value


def reasons(fleet: Imagined) -> list[Reason]:
    """Of the changes."""
    before = [fleet.minimum, *fleet.targets]
    return [one.reason for one, was in zip(fleet.decisions, before, strict=False) if one.replicas != was]


# ── Up ──


def test_a_steady_load_gets_as_many_replicas_as_it_fills() -> None:
    fleet = Imagined(scaling())
    fleet.live(120, constant(30))
    assert fleet.target == 4  # 30 in flight, 8 a replica: the profile's 10, used by four fifths
    assert {one.reason for one in fleet.decisions[-60:]} == {Reason.STEADY}


def test_a_spike_is_answered_at_once_and_whole_when_the_first_new_replicas_serve() -> None:
    fleet = Imagined(scaling())
    fleet.live(60, constant(3))
    fleet.live(4, constant(60))
    assert fleet.target == 5, "four more: what piles up meanwhile says nothing about the load"
    fleet.live(6, constant(60))
    assert fleet.target >= 8
    assert Reason.QUEUE in reasons(fleet)


def test_replicas_that_start_count_as_capacity_on_its_way() -> None:
    fleet = Imagined(scaling(), start=300)
    fleet.live(30, constant(40))
    assert fleet.target == 5 and fleet.running == 1
    fleet.live(200, constant(40))
    assert fleet.target == 5, "asked for again because they are not there yet"


def test_decode_tokens_alone_ask_for_a_replica() -> None:
    fleet = Imagined(scaling())
    fleet.live(90, constant(2), decode_rate=950.0)
    assert reasons(fleet)[0] == Reason.TOKENS


def test_prompts_that_wait_alone_ask_for_a_replica() -> None:
    fleet = Imagined(scaling())
    fleet.live(60, constant(2), prefill_backlog=50_000)  # 5 s of reading, 2 s are allowed
    assert reasons(fleet)[0] == Reason.PREFILL and fleet.target > 1


def test_a_full_kv_cache_alone_asks_for_a_replica() -> None:
    fleet = Imagined(scaling())
    fleet.live(60, constant(2), kv_cache=0.97)
    assert reasons(fleet)[0] == Reason.KV_CACHE and fleet.target > 1


def test_a_goal_that_is_missed_by_a_busy_fleet_adds_one_and_waits_what_it_brings() -> None:
    fleet = Imagined(scaling())
    fleet.live(60, constant(7), ttft_p95=3.0)
    assert fleet.target == 2 and reasons(fleet) == [Reason.GOAL]
    assert "TTFT p95 3.00 s, goal 2 s" in next(one.detail for one in fleet.decisions if one.reason == Reason.GOAL)


def test_a_goal_that_an_idle_fleet_misses_adds_nothing() -> None:
    """One long prompt takes what it takes, however many replicas there are."""
    fleet = Imagined(scaling())
    fleet.live(600, constant(1), ttft_p95=9.0)
    assert fleet.target == 1 and not fleet.decisions[-1].missed


def test_a_queue_that_the_profile_does_not_explain_adds_one_at_a_time() -> None:
    unmeasured = CapacityProfile(concurrency=1000, start_seconds=5)
    fleet = Imagined(scaling(unmeasured), slots=10)
    fleet.live(45, constant(30))
    assert fleet.target == 2 and reasons(fleet) == [Reason.QUEUE]
    fleet.live(40, constant(30))
    assert fleet.target == 3
    fleet.live(600, constant(30))
    assert fleet.target == 3, "nobody waits any more"


def test_a_load_that_grows_is_met_before_it_is_there() -> None:
    slow = CapacityProfile(concurrency=10, start_seconds=60)
    early, late = (
        Imagined(scaling(slow), start=60),
        Imagined(scaling(CapacityProfile(concurrency=10, start_seconds=0)), start=60),
    )
    for fleet in (early, late):
        fleet.live(60, constant(6))
        fleet.live(240, lambda now: 6 + (now - 60) * 0.15)
    assert Reason.FORECAST in reasons(early)
    assert sum(early.targets) > sum(late.targets)


def test_a_load_that_has_jumped_is_not_taken_for_one_that_grows() -> None:
    slow = CapacityProfile(concurrency=10, start_seconds=60)
    fleet = Imagined(scaling(slow), start=60)
    fleet.live(90, constant(7))
    fleet.live(90, constant(13))
    assert fleet.target == 2 and all(one.wanted <= 2 for one in fleet.decisions)


def test_a_sleeping_deployment_is_woken_by_what_is_held() -> None:
    decision = scaling().decide(Fleet(now=0, held=1, maximum=4))
    assert (decision.replicas, decision.reason) == (1, Reason.WAKE)
    assert scaling().decide(Fleet(now=0, held=40, maximum=9)).replicas == 5


# ── Down ──


def test_one_goes_at_a_time_after_a_whole_window_of_little_load() -> None:
    fleet = Imagined(scaling(), minimum=1)
    fleet.live(60, constant(40))
    top = fleet.target
    began = fleet.now
    fleet.live(100, constant(3))
    assert fleet.target == top
    fleet.live(400, constant(3))
    assert fleet.target == 1
    assert all(before - after <= 1 for before, after in pairwise(fleet.targets))
    assert set(reasons(fleet)[-(top - 1) :]) == {Reason.SPARE}
    assert fleet.now - began > 120


def test_one_peak_in_the_window_keeps_the_fleet() -> None:
    fleet = Imagined(scaling(), minimum=1)
    fleet.live(60, constant(20))
    top = fleet.target
    fleet.live(600, lambda now: 20 if now % 100 < 30 else 2)
    assert fleet.target == top


def test_a_fleet_does_not_shrink_into_a_size_that_would_have_to_grow() -> None:
    """12 in flight fill 1.2 replicas: two are right, and one would not do."""
    fleet = Imagined(scaling())
    fleet.live(3600, constant(12))
    assert fleet.target == 2 and fleet.turns == 0


def test_one_that_was_woken_stays_awake_although_the_rule_was_not_asked_meanwhile() -> None:
    """Serve wakes a deployment by itself; whoever was told to come back finds it awake."""
    scaling = Scaling(Goals(scale_to_zero_after=60.0), CapacityProfile(concurrency=10))
    awake = {"replicas": (ReplicaSignals.from_numbers({"running": 0}),), "running": 1, "target": 1, "minimum": 0}
    assert scaling.decide(Fleet(now=0.0, **awake)).replicas == 1  # type: ignore[arg-type]
    assert scaling.decide(Fleet(now=60.0, **awake)).replicas == 0  # type: ignore[arg-type]
    scaling.decide(Fleet(now=61.0, minimum=0))
    kept = [scaling.decide(Fleet(now=now, **awake)).replicas for now in (1000.0, 1030.0, 1059.0, 1060.0)]  # type: ignore[arg-type]
    assert kept == [1, 1, 1, 0]


def test_an_idle_fleet_goes_to_zero_where_that_is_allowed_and_never_else() -> None:
    allowed = Imagined(scaling(scale_to_zero_after=60), minimum=0)
    allowed.live(30, constant(20))
    allowed.live(900, constant(0))
    assert allowed.target == 0 and reasons(allowed)[-1] == Reason.IDLE
    kept = Imagined(scaling(scale_to_zero_after=60), minimum=1)
    kept.live(900, constant(0))
    assert kept.target == 1


def test_a_fleet_that_has_just_gone_to_sleep_is_not_woken_by_what_it_had_to_do() -> None:
    fleet = Imagined(scaling(scale_to_zero_after=8, scale_down_after=8), minimum=0, maximum=3)
    fleet.live(30, constant(25))
    fleet.live(120, constant(0))
    assert reasons(fleet)[-3:] == [Reason.SPARE, Reason.SPARE, Reason.IDLE]
    first_zero = fleet.targets.index(0, 30)
    assert set(fleet.targets[first_zero:]) == {0}


def test_replicas_that_find_no_place_do_not_keep_a_fleet_from_shrinking() -> None:
    fleet = Imagined(scaling(scale_to_zero_after=60), start=1e9, minimum=0)
    fleet.target = fleet.running = 1
    fleet.live(30, constant(40))
    assert (fleet.target, fleet.running) == (5, 1)
    fleet.live(900, constant(0))
    assert fleet.target == 0


def test_one_request_a_minute_keeps_it_awake() -> None:
    fleet = Imagined(scaling(scale_to_zero_after=90), minimum=0)
    fleet.live(30, constant(3))
    fleet.live(1200, lambda now: float(now % 60 < 2))
    assert fleet.target == 1


def test_silence_holds_the_fleet_and_one_silent_replica_does_not() -> None:
    rule = scaling()
    mute = Fleet(now=0, replicas=(), running=3, target=3, maximum=9)
    assert rule.decide(mute) == Decision(3, Reason.BLIND, "none of 3 replicas reports", 3)
    busy = tuple(ReplicaSignals(running=10, waiting=9) for _ in range(2))
    for second in range(1, 30):
        decision = rule.decide(Fleet(now=second, replicas=busy, running=3, target=3, maximum=9))
    assert decision.wanted == 8  # as if the silent one had 19, too


# ── Bounds, budget, faults ──


def test_more_than_the_maximum_is_said_to_be_wanted() -> None:
    fleet = Imagined(scaling(), maximum=2)
    fleet.live(60, constant(60))
    last = fleet.decisions[-1]
    assert (last.replicas, last.wanted, last.reason) == (2, 8, Reason.BOUNDS)
    assert "8 wanted of 1 to 2" in last.detail


def test_a_goal_missed_at_the_maximum_is_said() -> None:
    fleet = Imagined(scaling(), maximum=1)
    fleet.live(60, constant(9), ttft_p95=5.0)
    assert fleet.decisions[-1].missed and fleet.decisions[-1].wanted > 1


def test_a_spent_budget_leaves_the_minimum_and_comes_back_with_the_day() -> None:
    fleet = Imagined(scaling(replica_hours_a_day=30.0), maximum=4, step=60.0)
    fleet.live(7 * 3600, constant(35))
    assert fleet.target == 4, "28 of 30 hours"
    fleet.live(2 * 3600, constant(35))
    assert fleet.target == 1 and fleet.decisions[-1].reason == Reason.BUDGET
    assert all(before - after <= 1 for before, after in pairwise(fleet.targets))
    fleet.live(23 * 3600, constant(35))
    assert max(fleet.targets[-120:]) == 4, "the hours of yesterday count no more"


def test_a_clock_that_is_set_back_does_no_harm() -> None:
    fleet = Imagined(scaling())
    fleet.live(60, constant(30))
    fleet.now -= 3600
    fleet.live(60, constant(30))
    assert fleet.target == 4


def test_what_was_spent_survives_a_restart_of_the_controller() -> None:
    from serving.scaling.history import Spending

    before = Spending()
    for second in range(0, 3601, 10):
        spent = before.add(float(second), 4)
    assert spent == pytest.approx(4.0, rel=0.01)
    assert Spending(before.steps).add(3610.0, 4) == pytest.approx(spent, rel=0.01)


# ── What always holds ──

load = st.floats(0, 200, allow_nan=False)
signals = st.builds(
    ReplicaSignals,
    running=st.integers(0, 300),
    waiting=st.integers(0, 300),
    kv_cache=st.floats(0, 1),
    prefill_backlog=st.integers(0, 10**6),
    decode_rate=st.floats(0, 1e5),
    prefill_rate=st.floats(0, 1e5),
    ttft_p95=st.none() | st.floats(0, 100),
    tpot_p95=st.none() | st.floats(0, 10),
)


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    minimum = draw(st.integers(0, 4))
    maximum = draw(st.integers(max(1, minimum), 12))
    running = draw(st.integers(0, 12))
    return Fleet(
        now=draw(st.floats(0, 1e6)),
        replicas=draw(st.lists(signals, max_size=running)),
        running=running,
        starting=draw(st.integers(0, 6)),
        target=draw(st.integers(0, 14)),
        held=draw(st.integers(0, 50)),
        minimum=minimum,
        maximum=maximum,
    )


@given(st.lists(fleets(), min_size=1, max_size=6), st.none() | st.floats(0.1, 100))
def test_never_outside_the_bounds_whatever_comes(seen: list[Fleet], budget: float | None) -> None:
    rule = scaling(scale_to_zero_after=10, replica_hours_a_day=budget)
    for fleet in sorted(seen, key=lambda one: one.now):
        decision = rule.decide(fleet)
        assert fleet.minimum <= decision.replicas <= fleet.maximum
        assert decision.detail and decision.reason in Reason


@settings(max_examples=15, deadline=None)
@given(load)
def test_a_constant_load_never_makes_a_fleet_turn(value: float) -> None:
    fleet = Imagined(scaling(), maximum=30)
    fleet.live(600, constant(value))
    assert fleet.turns == 0


@settings(max_examples=20, deadline=None)
@given(load, load)
def test_more_load_never_gets_fewer_replicas(one: float, other: float) -> None:
    less, more = sorted((one, other))
    small, large = Imagined(scaling(), maximum=30), Imagined(scaling(), maximum=30)
    small.live(60, constant(less))
    large.live(60, constant(more))
    assert small.target <= large.target


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=8))
def test_it_sleeps_only_after_idling(loads: list[int]) -> None:
    fleet = Imagined(scaling(scale_to_zero_after=60), minimum=0)
    idle = 0.0
    for value in loads:
        for _ in range(40):
            before = fleet.target
            fleet.live(1, constant(value))
            idle = 0.0 if value else idle + 1
            if before and not fleet.target:
                assert idle >= 60


@pytest.mark.parametrize(("seed", "mean"), [(2, 6.0), (4, 6.0), (0, 25.0), (3, 70.0)])
def test_a_random_load_of_a_constant_rate_does_not_make_it_swing(seed: int, mean: float) -> None:
    """Requests of 20 s that come at random, for two hours, with the usual window."""
    chance, there = random.Random(seed), 0
    busy = mean

    def in_flight(now: float) -> float:
        nonlocal there
        there += sum(chance.random() < busy / 20 / 40 for _ in range(40)) - sum(
            chance.random() < 1 / 20 for _ in range(there)
        )
        return there

    fleet = Imagined(scaling(scale_down_after=300), maximum=30)
    fleet.live(7200, in_flight)
    assert fleet.turns <= 2
    assert fleet.target <= mean / 10 / 0.6 + 2
