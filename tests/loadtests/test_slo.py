"""Verdicts: met, missed, invalid; when the client is to blame; when a server falls behind."""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from loadtests import capacity, slo
from loadtests.capacity import Capacity
from loadtests.measured import Measured, Worker
from loadtests.metrics import Kind, Row
from loadtests.plan import Overrides, Plan, Server
from tests.loadtests.test_metrics import ROW

SERVER = Server("http://127.0.0.1:8000", "m", 4096, 1.0, forced=True)
TREE = {
    "name": "x", "question": "?", "warm_up": 10, "measure": 60,
    "flows": [{"name": "chat", "arrivals": {"kind": "poisson", "rate": 4}, "objective": {"ttft": "500ms"}}],
}  # fmt: skip


def row(at: float, ttft: float = 0.1, lag: float = 0.001, kind: Kind = "ok", seconds: float = 1.0) -> Row:
    sent, first = (None, None) if kind == "dropped" else (at + lag, at + ttft)
    good = kind == "ok" and ttft <= 0.5
    return replace(ROW, intended=at, sent=sent, first=first, end=at + seconds, kind=kind, good=good)


def run_of(rows: Sequence[Row], *, cpu: float = 0.1, loop: float = 0.001, expected: int = 1) -> Measured:
    measured = Measured(Plan(TREE, SERVER, "1", Overrides()), expected, 0.0, rows=list(rows))
    for one in rows:
        measured.tallies.add(one, [0.01])
    measured.workers[0] = Worker(cpu=cpu, done=True)
    measured.workers[0].loop_lag.add(loop)
    return measured


def steady(count: int = 300, **how: float) -> list[Row]:
    rng = Random(1)
    return [row(10 + rng.random() * 60, **how) for _ in range(count)]  # type: ignore[arg-type]


def judged(measured: Measured) -> slo.Verdict:
    return slo.judge(measured.plan.resolved(), measured)


def test_a_run_in_which_all_is_well_is_met() -> None:
    verdict = judged(run_of(steady()))
    assert (verdict.word, verdict.status) == ("MET", 0)


@pytest.mark.parametrize("kind", ["limited", "failed", "timeout", "broken", "unfinished", "unreachable"])
def test_every_way_to_fail_counts_against_what_was_offered(kind: Kind) -> None:
    verdict = judged(run_of([*steady(), *(row(20 + i, kind=kind) for i in range(5))]))
    assert (verdict.word, verdict.status) == ("MISSED", 2)


def test_what_the_client_could_not_send_voids_the_run() -> None:
    assert judged(run_of([*steady(), *(row(20 + i, kind="dropped") for i in range(9))])).status == 3


def test_a_late_client_does_not_void_what_was_met_in_spite_of_it() -> None:
    measured = run_of(steady(lag=0.05))
    verdict = judged(measured)
    assert verdict.word == "MET" and "in spite of a late client" in slo.line(
        measured.plan.resolved(), measured, verdict
    )


@pytest.mark.parametrize("how", [{"cpu": 0.95}, {"loop": 0.2}])
def test_a_miss_with_a_client_at_its_limit_is_invalid(how: dict[str, float]) -> None:
    assert judged(run_of(steady(ttft=0.6), **how)).word == "INVALID"
    assert judged(run_of(steady(ttft=0.6))).word == "MISSED"


def test_a_server_that_refuses_is_not_excused_by_a_late_client() -> None:
    rows = [*steady(), *(row(20 + i, kind="unreachable") for i in range(30))]
    assert judged(run_of(rows, cpu=0.95)).word == "MISSED"


def test_a_client_so_late_that_the_load_is_another_voids_even_what_was_met() -> None:
    assert judged(run_of(steady(lag=0.3, ttft=0.4))).word == "INVALID"


def test_a_worker_that_did_not_report_to_the_end_voids_the_run() -> None:
    assert judged(run_of(steady(), expected=2)).word == "INVALID"


def test_nothing_offered_is_invalid_and_not_a_success() -> None:
    assert judged(run_of([])).status == 3


def test_a_server_that_falls_behind_misses_although_every_answer_so_far_was_in_time() -> None:
    rows = [row(10 + i / 5, seconds=min(60.0, 1 + i / 5)) for i in range(300)]
    verdict = judged(run_of(rows))
    assert verdict.word == "MISSED" and verdict.missed[0].what == slo.GROWS


@pytest.mark.parametrize("seed", range(20))
def test_chance_alone_does_not_look_like_falling_behind(seed: int) -> None:
    rng = Random(seed)
    rows = [row(rng.random() * 80, seconds=rng.lognormvariate(0.5, 0.6)) for _ in range(400)]
    assert slo.falling_behind(rows, 10, 70) is None


def test_in_flight_counts_from_the_intended_time() -> None:
    rows = [row(1.0, seconds=2.0), row(2.0, seconds=5.0)]
    assert slo.in_flight(rows, [0.5, 1.5, 2.5, 4.0, 8.0]) == [0, 1, 2, 1, 0]


def test_fairness_is_one_when_all_are_alike_and_one_over_n_when_one_has_all() -> None:
    assert slo.jain([0.9, 0.9, 0.9]) == pytest.approx(1) and slo.jain([1, 0, 0, 0]) == pytest.approx(0.25)


@pytest.mark.parametrize("true", [0.3, 4.0, 7.3, 100.0])
def test_the_search_ends_within_its_precision_of_the_true_capacity(true: float) -> None:
    found = capacity.search(lambda rate: rate <= true, 4.0, precision=0.1, most=30)
    assert found.highest <= true <= (found.bound or 0) <= found.highest * 1.1


def test_a_search_that_meets_nothing_says_how_far_down_it_looked() -> None:
    assert capacity.search(lambda _: False, 4.0, most=5) == Capacity(0.0, 0.25)


def test_a_search_that_the_client_ends_is_not_reliable_and_goes_on_below() -> None:
    found = capacity.search(lambda rate: True if rate < 10 else None, 16.0)
    assert 9 < found.highest < 10 <= (found.bound or 0) < 11 and not found.reliable


def test_a_search_is_reliable_when_the_nearest_bound_is_the_servers() -> None:
    found = capacity.search(lambda rate: True if rate < 5 else False if rate < 10 else None, 16.0)
    assert 4.5 < found.highest < 5 and found.reliable
