"""Histograms that merge without loss, tallies whose sums add up, rows whose times mean what they say."""

import math
from dataclasses import replace
from random import Random

import pytest

from loadtests.metrics import Histogram, Row, Tallies, Tally

ROW = Row(
    flow="chat", label="", stage="", tenant="default", number=0, kind="ok", good=True, measured=True, status=200,
    attempts=1, intended=10.0, sent=10.01, first=10.2, end=11.2, prompt_tokens=150,
    answer_tokens=11, frames=11, stall=0.1,
)  # fmt: skip


def histogram(values: list[float]) -> Histogram:
    made = Histogram()
    for value in values:
        made.add(value)
    return made


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.99, 1.0])
def test_a_percentile_is_within_one_percent_of_the_true_one(share: float) -> None:
    rng = Random(1)
    values = [rng.lognormvariate(-2, 1.5) for _ in range(5000)]
    true = sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
    assert histogram(values).percentile(share) == pytest.approx(true, rel=0.01)


def test_merged_histograms_are_the_histogram_of_all_values() -> None:
    rng = Random(2)
    values = [rng.expovariate(3) for _ in range(900)]
    parts = [Histogram.unpacked(histogram(values[i::3]).packed()) for i in range(3)]
    merged = Histogram()
    for part in parts:
        merged.merge(part)
    whole = histogram(values)
    assert merged.counts == whole.counts and merged.total == pytest.approx(whole.total)
    assert (merged.least, merged.most) == (whole.least, whole.most)


def test_nothing_measured_is_not_a_number_and_travels() -> None:
    empty = Histogram.unpacked(Histogram().packed())
    assert math.isnan(empty.percentile(0.5)) and math.isnan(empty.mean) and empty.curve() == []


def test_zero_and_less_go_into_the_lowest_bucket() -> None:
    assert histogram([0.0, -0.001]).percentile(0.5) <= Histogram.FLOOR


def test_a_curve_ends_at_one() -> None:
    curve = histogram([0.1, 0.2, 0.3]).curve()
    assert curve[-1][1] == 1.0 and curve == sorted(curve)


def test_every_latency_counts_from_the_intended_time() -> None:
    assert (ROW.ttft, ROW.e2e, ROW.lag) == (pytest.approx(0.2), pytest.approx(1.2), pytest.approx(0.01))
    assert ROW.tpot == pytest.approx(0.1) and ROW.normalised == pytest.approx(1.2 / 11)


@pytest.mark.parametrize("change", [{"answer_tokens": 1}, {"kind": "broken"}, {"first": None}])
def test_time_per_token_is_undefined_where_it_would_mean_nothing(change: dict[str, object]) -> None:
    assert replace(ROW, **change).tpot is None


def test_offered_is_the_sum_of_all_outcomes_and_attainment_is_over_it() -> None:
    tally = Tally()
    for kind in ("ok", "ok", "limited", "dropped", "timeout"):
        tally.add(replace(ROW, kind=kind, good=kind == "ok"))
    assert tally.offered == 5 and tally.attainment == pytest.approx(0.4)


def test_a_refusal_does_not_count_as_a_fast_first_token() -> None:
    tally = Tally()
    tally.add(replace(ROW, kind="limited", good=False, first=None))
    assert tally.times["ttft"].count == tally.times["e2e"].count == 0 and tally.times["lag"].count == 1


def test_tallies_of_workers_add_up_to_the_tally_of_everything() -> None:
    rng, whole, parts = Random(3), Tallies(), [Tallies() for _ in range(3)]
    for number in range(300):
        flow, kind = rng.choice("ab"), rng.choice(["ok", "ok", "failed"])
        row = replace(
            ROW, flow=flow, label=rng.choice(["", "x"]), kind=kind, measured=rng.random() < 0.8, number=number
        )
        gaps = [rng.random() for _ in range(3)]
        whole.add(row, gaps)
        parts[number % 3].add(row, gaps)
    merged = Tallies()
    for part in parts:
        merged.merge(Tallies.unpacked(part.packed()))
    for wanted in ({}, {"flow": "a"}, {"flow": "b", "label": "x"}):
        one, other = merged.sum(**wanted), whole.sum(**wanted)
        assert (one.kinds, one.good, one.answer_tokens, one.frames) == (
            other.kinds,
            other.good,
            other.answer_tokens,
            other.frames,
        )
        assert all(one.times[name].counts == other.times[name].counts for name in one.times)
    assert merged.values("flow") and set(merged.values("label", "a")) == {"", "x"}


def test_what_is_outside_the_window_is_not_tallied() -> None:
    tallies = Tallies()
    tallies.add(replace(ROW, measured=False))
    assert tallies.sum().offered == 0
