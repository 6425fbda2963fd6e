"""Fleets under load: every request ends once, chance is seeded, policies see what they should."""

import math
from random import Random

import pytest

from loadtests.simulator import hardware, study
from loadtests.simulator.controller import Hardware, MetricPath
from loadtests.simulator.judge import Objective, judged
from loadtests.simulator.load import Patience, crowd
from loadtests.simulator.policies import QueueThreshold, RayDefault, Static, View
from loadtests.simulator.request import Request
from loadtests.simulator.slots import Echo, SlotEngine
from loadtests.simulator.starting import AT_ONCE, Phase, StartUp
from loadtests.simulator.study import Job, Load
from loadtests.simulator.world import Clients, Gateway, Run, Setup, simulated
from loadtests.traces import Call
from serving.scaling.signals import ReplicaSignals

SHORT = Load("day", 30.0, seconds=300.0)


def a_setup(slots: int = 4, start: StartUp = AT_ONCE, **more: object) -> Setup:
    def engine() -> SlotEngine:
        return SlotEngine(Echo(slots, prefill_rate=1e4, first_token=0.0, inter_token=0.02))

    return Setup(Hardware(engine, start, maximum=20), MetricPath(1.0), **more)  # type: ignore[arg-type]


def a_crowd(count: int, rate: float, patience: float = math.inf) -> list[Request]:
    rng, at, requests = Random(5), 0.0, []
    for number in range(count):
        at += rng.expovariate(rate)
        requests.append(Request(number, at, 100, rng.randint(1, 100), patience))
    return requests


class Scripted:
    """What it wants, from when on."""

    knows_all = False

    def __init__(self, *script: tuple[float, int]) -> None:
        self._script = script

    def target(self, view: View) -> int:
        return next(replicas for since, replicas in reversed(self._script) if view.now >= since)


def ends(run: Run) -> list[tuple[int, float | None]]:
    return [(request.number, request.end) for request in run.requests]


def test_every_request_ends_once_through_overload_impatience_and_a_fleet_that_comes_and_goes() -> None:
    requests = a_crowd(2000, rate=20.0, patience=3.0)
    setup = a_setup(start=StartUp(node=Phase(5.0, 0.5), failing=0.2), clients=Clients(pause=1.0, tries=3))
    run = simulated(setup, Scripted((0.0, 1), (20.0, 8), (50.0, 2), (70.0, 6)), requests, Random(1))
    assert [request.number for request in run.requests] == list(range(2000))
    whole = [request for request in run.requests if request.end is not None]
    gave_up = [request for request in run.requests if request.first is None]
    assert len(whole) + len(gave_up) == 2000
    assert gave_up
    assert all(request.tries == 3 for request in gave_up)
    assert any(request.tries == 2 for request in whole)
    made = sum(replica.engine.made_by(math.inf) for replica in run.replicas)
    assert made == sum(request.answer for request in whole)
    assert all(replica.engine.in_flight == 0 for replica in run.replicas)


def test_a_replica_that_is_stopped_finishes_what_it_has_and_counts_until_then() -> None:
    requests = [Request(0, 0.0, 100, 100), Request(1, 50.0, 100, 2)]
    run = simulated(a_setup(), Scripted((0.0, 1), (1.0, 2), (10.0, 1)), requests, Random(1))
    assert all(request.end is not None for request in run.requests)
    first = run.replicas[0]
    assert first.stopped is None or first.stopped >= requests[0].end
    assert run.replica_seconds == pytest.approx(50.0 + 9.0, abs=1.1)


def test_a_sleeping_fleet_holds_requests_and_refuses_what_waits_too_long() -> None:
    setup = a_setup(start=StartUp(node=Phase(30.0)), gateway=Gateway(hold=10.0), clients=Clients(pause=5.0, tries=3))
    setup = Setup(Hardware(setup.hardware.engine, setup.hardware.start, initial=0, minimum=0), *_rest(setup))
    run = simulated(setup, Scripted((0.0, 1)), [Request(0, 0.0, 100, 5), Request(1, 25.0, 100, 5)], Random(1))
    assert run.requests[0].tries == 3  # refused at 10 and at 25
    assert all(request.first == pytest.approx(30.0, abs=1.5) for request in run.requests)


def _rest(setup: Setup) -> tuple[MetricPath, Gateway, Clients]:
    return setup.metrics, setup.gateway, setup.clients


def test_what_the_controller_sees_is_as_late_as_the_metrics_are() -> None:
    seen: list[tuple[float, int]] = []

    class Watching(Static):
        def target(self, view: View) -> int:
            seen.append((view.now, sum(report.running for report in view.reports)))
            return super().target(view)

    requests = [Request(0, 100.0, 1, 2000), Request(1, 130.0, 1, 2)]
    setup = a_setup()
    simulated(Setup(setup.hardware, MetricPath(10.0, delay=3.0, lost=0.0)), Watching(1), requests, Random(1))
    first = next(now for now, running in seen if running)
    assert 103.0 <= first <= 114.0


def test_equal_jobs_have_equal_results_also_from_other_processes() -> None:
    jobs = [Job(SHORT, "ours", 1.0, seed) for seed in (1, 2)]
    here, there = dict(study.run(jobs, 1)), dict(study.run(jobs, 2))
    assert here == there
    assert here[jobs[0]] != here[jobs[1]]


def test_the_oracle_is_not_beaten() -> None:
    """At least as much is attained as by any other with as many hours, in spite of a few hours' noise."""
    policies = {"oracle": 0.1, "ours": 1.0, "ray": 48, "queue": 20, "static": 0.8}
    figures = {name: study.one(Job(Load("day", 30.0, 900.0), name, knob, 7)) for name, knob in policies.items()}
    oracle = figures.pop("oracle")
    for name, other in figures.items():
        assert oracle.attainment > other.attainment - 0.005 or oracle.replica_hours < other.replica_hours, name
        assert not (other.attainment > oracle.attainment and other.replica_hours < 0.9 * oracle.replica_hours), name


def test_without_load_left_to_chance_a_crowd_keeps_the_traces_swell_and_lengths() -> None:
    calls = [Call(float(at), 10 + at, 20) for at in range(1000) if at % 10 == 0 or at >= 500]
    requests = crowd(calls, 4.5, Patience(), Random(1))
    assert len(requests) == pytest.approx(4.5 * len(calls), rel=0.05)
    assert [request.at for request in requests] == sorted(request.at for request in requests)
    early = sum(request.at < 400 for request in requests)
    late = sum(request.at > 600 for request in requests)
    assert late / early == pytest.approx(10.0, rel=0.15)
    assert {request.prompt for request in requests} == {call.prompt_tokens for call in calls}


def a_view(now: float = 0.0, ongoing: float = 0.0, running: int = 4, **more: object) -> View:
    known = {"reports": [], "starting": 0, "target": running, "held": 0, "minimum": 1, "maximum": 50}
    return View(now=now, ongoing=ongoing, running=running, **(known | more))  # type: ignore[arg-type]


@pytest.mark.parametrize(("ongoing", "running"), [(0.0, 4), (7.0, 4), (8.0, 4), (30.0, 4), (5.0, 0), (3.0, 1)])
def test_rays_policy_is_called_as_rays_controller_would(ongoing: float, running: int) -> None:
    from ray.serve.autoscaling_policy import _apply_autoscaling_config, default_autoscaling_policy

    ours = RayDefault(2.0, 1, 50, upscale_delay_s=0.0, downscale_delay_s=0.0)
    view = a_view(ongoing=ongoing, running=running)
    wrapped, _ = _apply_autoscaling_config(default_autoscaling_policy)(ours.context(view))
    assert ours.target(view) == wrapped


def test_rays_delays_are_kept_in_simulated_time() -> None:
    policy = RayDefault(2.0, 1, 50)
    targets = [policy.target(a_view(now=float(now), ongoing=20.0)) for now in range(0, 40, 10)]
    assert targets == [4, 4, 4, 10]  # 30 s


def test_a_queue_threshold_at_most_doubles_and_waits_before_it_goes_down() -> None:
    policy, target, targets = QueueThreshold(5.0), 4, []
    for now in range(0, 700, 15):
        waiting = 200 if now < 60 else 0
        view = a_view(float(now), target=target, reports=[ReplicaSignals(running=10, waiting=waiting)])
        target = policy.target(view)
        targets.append((now, target))
    assert targets[:3] == [(0, 8), (15, 16), (30, 32)]
    assert dict(targets)[345] == 40
    assert dict(targets)[600] == 0  # the caller keeps the minimum


def test_starts_take_their_medians_longer_beside_many_others_and_again_when_they_fail() -> None:
    start, rng = StartUp(Phase(10.0), Phase(20.0), Phase(30.0), Phase(5.0), at_full_speed=4), Random(1)
    assert start.drawn(0, rng) == start.median == 65.0
    assert start.drawn(7, rng) == 85.0
    failing = StartUp(Phase(10.0), Phase(20.0), failing=0.5)
    assert sum(failing.drawn(0, rng) for _ in range(2000)) / 2000 == pytest.approx(50.0, rel=0.05)


def test_the_step_times_are_those_that_were_measured() -> None:
    measured = hardware.timings()
    prompts, tokens = hardware.errors(hardware.fitted(measured), measured)
    assert prompts < 0.15
    assert tokens < 0.03


def test_a_verdict_counts_what_was_never_answered_and_from_the_first_try() -> None:
    late = Request(1, 0.0, 1, 2, first=2.5, end=2.6, tries=2)
    requests = [Request(0, 0.0, 1, 11, first=1.0, end=2.0), late, Request(2, 0.0, 1, 1), Request(3, 9.0, 1, 2)]
    requests[3].first, requests[3].end = 9.5, 9.7
    figures = judged(Run(requests, [], [(0.0, 1, 1)], 9.0), Objective(ttft=2.0, tpot=0.1))
    assert (figures.attainment, figures.shed, figures.retried) == (0.25, 0.25, 0.25)
    assert figures.violation == 1.0
