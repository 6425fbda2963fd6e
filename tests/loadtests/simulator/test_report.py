"""The comparison: knobs are chosen on other loads, policies are compared at equal hours, everything can be read."""

from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.metrics import Row
from loadtests.simulator import __main__ as command
from loadtests.simulator import plots, report
from loadtests.simulator.judge import Figures, spread
from loadtests.simulator.real import Seen
from loadtests.simulator.study import KNOBS, NO_START, PLAIN, TOLD, Job, Load
from loadtests.simulator.validate import TRACES, Constants, calls, compared, simulate
from loadtests.simulator.world import Run
from loadtests.traces import Call

DAY, BURSTS = Load("day", 30.0), Load("bursts", 30.0)
ZERO = Figures(*[0.0] * len(Figures.__dataclass_fields__))


def figures(attainment: float, hours: float) -> Figures:
    return replace(ZERO, attainment=attainment, replica_hours=hours)


def results(*rows: tuple[str, float, float, float], load: Load = DAY) -> dict[Job, Figures]:
    """rows: policy, knob, attainment, hours."""
    return {
        Job(load, policy, knob, seed): figures(attainment, hours + seed / 100)
        for policy, knob, attainment, hours in rows
        for seed in (0, 1)
    }


def test_the_cheapest_knob_that_attains_enough_on_every_load_is_chosen() -> None:
    tuned = results(("ours", 0.8, 0.99, 8.0), ("ours", 1.0, 0.96, 6.0), ("ours", 1.5, 0.96, 4.0))
    tuned |= results(("ours", 0.8, 0.98, 8.0), ("ours", 1.0, 0.97, 6.0), ("ours", 1.5, 0.90, 4.0), load=BURSTS)
    assert report.chosen(tuned, ["ours"]) == {"ours": 1.0}


def test_where_no_knob_attains_enough_the_nearest_is_chosen() -> None:
    tuned = results(("queue", 1, 0.6, 8.0), ("queue", 5, 0.7, 6.0))
    assert report.chosen(tuned, ["queue"]) == {"queue": 5}


def test_between_two_settings_a_frontier_is_a_straight_line_and_never_falls() -> None:
    frontier = [figures(0.9, 4.0), figures(0.8, 2.0), figures(0.7, 6.0)]
    assert [report.attained(frontier, hours) for hours in (1.0, 3.0, 6.0)] == pytest.approx([0.8, 0.85, 0.9])
    assert report.hours_for(frontier, 0.85) == pytest.approx(3.0)
    assert report.hours_for(frontier, 0.95) is None


def test_ours_is_compared_with_the_others_at_its_own_hours() -> None:
    found = results(("ours", 1.0, 0.98, 3.0), ("ray", 16, 0.99, 4.0), ("ray", 32, 0.91, 2.0))
    assert report.at_equal_hours(found, 1.0, "ray").mean == pytest.approx(3.0)


def test_an_interval_is_students() -> None:
    assert spread([1.0, 2.0, 3.0]).half == pytest.approx(4.30 / 3**0.5)


def test_tables_and_picture_show_every_policy(tmp_path: Path) -> None:
    rows = [(policy, knob, 0.9, 3.0 + knob / 100) for policy, knobs in KNOBS.items() for knob in knobs]
    found, knobs = results(*rows), {policy: knobs[0] for policy, knobs in KNOBS.items()}
    found |= {replace(job, ablation=NO_START): one for job, one in found.items() if job.policy == "ours"}
    text = report.table(found, 4, knobs) + report.equal_hours(found, 4, knobs)
    assert all(text.count(f"| {policy} |") > 1 for policy in TOLD)
    assert f"| {PLAIN} | {NO_START} |" in report.ablations(found, 4, {"ours": knobs["ours"]})
    plots.draw(tmp_path / "one.svg", "title", found, 4, knobs)
    plots.draw(tmp_path / "other.svg", "title", found, 4, knobs)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()


def test_a_trace_that_is_none_is_said_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--trace", "nowhere.csv", "--processes", "1"]) == command.FAILED
    assert "cannot read the trace nowhere.csv" in capsys.readouterr().err


def test_held_against_its_own_run_the_simulator_errs_by_no_more_than_chance() -> None:
    asked = [row(number, call, first=0.0, end=0.0) for number, call in enumerate(calls(TRACES["wave"]))]
    machine = Constants(start=4.0, door=0.02, token=0.021)
    run = simulate(asked, machine, seed=100)
    again = sorted(run.requests, key=lambda request: request.number)
    rows = [replace(one, first=r.first, end=r.end or 0.0) for one, r in zip(asked, again, strict=True)]
    looks = [(float(at), *counts(run, at)) for at in range(150)]
    errors = {one.name: one.error for one in compared(Seen(rows, looks), machine)}
    assert errors["TTFT p50, s"] < 0.05 and errors["TPOT p50, s"] < 0.01 and errors["replica-seconds"] < 0.1


def row(number: int, call: Call, first: float, end: float) -> Row:
    return Row(
        flow="trace", label="", stage="", tenant="default", number=number, kind="ok", good=True, measured=True,
        status=200, attempts=1, intended=call.at, sent=call.at, first=first, end=end, prompt_tokens=call.prompt_tokens,
        answer_tokens=call.answer_tokens, frames=1, stall=0.0,
    )  # fmt: skip


def counts(run: Run, at: float) -> tuple[int, int]:
    """Replicas that serve, and all that there are."""
    there = [one for one in run.replicas if one.asked <= at and (one.stopped is None or one.stopped > at)]
    return sum(one.ready is not None and one.ready <= at and not one.stopping for one in there), len(there)
