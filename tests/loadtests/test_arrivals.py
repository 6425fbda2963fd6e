"""When requests come: rates, burstiness, shapes, and that workers' shares add up."""

import itertools
import statistics
from random import Random

import pytest

from loadtests.arrivals import Closed, Day, Once, OnOff, Pattern, Ramp, Renewal, Replay, Steps, Window, pause, share_of
from loadtests.traces import Call

WINDOW = Window(0.0, 2000.0, 2000.0)
CALLS = tuple(Call(float(at), 100 + at, 10) for at in range(100))
ALL: list[Pattern] = [
    Renewal(5), Renewal(5, 0.0), Renewal(5, 4.0), OnOff(2, 8), Ramp(1, 9), Steps((2, 4, 8)), Day(1, 9), Replay(CALLS),
    Once(3), Closed(7),
]  # fmt: skip


def times(pattern: Pattern, window: Window = WINDOW, seed: int = 1) -> list[float]:
    return [arrival.at for arrival in pattern.arrivals(window, Random(seed))]


def cv(offsets: list[float]) -> float:
    gaps = [b - a for a, b in itertools.pairwise(offsets)]
    return statistics.stdev(gaps) / statistics.mean(gaps)


@pytest.mark.parametrize(("variation", "tolerance"), [(0.0, 1e-6), (1.0, 0.05), (2.0, 0.15), (4.0, 0.5)])
def test_gaps_have_the_rate_and_the_variation_that_were_asked_for(variation: float, tolerance: float) -> None:
    offsets = times(Renewal(20, variation))
    assert len(offsets) / 2000 == pytest.approx(20, rel=0.1)
    assert cv(offsets) == pytest.approx(variation, abs=tolerance)


def test_on_off_keeps_its_mean_rate_and_is_burstier_than_poisson() -> None:
    pattern = OnOff(2, 20, (20.0, 5.0))
    offsets = times(pattern)
    assert len(offsets) / 2000 == pytest.approx(pattern.rate, rel=0.15)
    per_second = statistics.variance([sum(i <= at < i + 5 for at in offsets) for i in range(0, 2000, 5)])
    assert per_second > 2 * 5 * pattern.rate


def test_a_ramp_begins_with_the_window_and_ends_at_its_last_rate() -> None:
    offsets = times(Ramp(1, 9), Window(500.0, 1500.0, 2000.0))
    count = lambda a, b: sum(a <= at < b for at in offsets)  # noqa: E731
    assert count(0, 500) / 500 == pytest.approx(1, rel=0.2)
    assert count(500, 1500) / 1000 == pytest.approx(5, rel=0.1)
    assert count(1500, 2000) / 500 == pytest.approx(9, rel=0.1)


def test_a_day_is_busiest_at_its_middle() -> None:
    offsets = times(Day(1, 9))
    assert sum(900 <= at < 1100 for at in offsets) > 5 * sum(at < 200 for at in offsets)


def test_each_step_is_a_stage_with_its_rate_after_it_settled() -> None:
    arrivals = list(Steps((2, 8), settle=0.25).arrivals(Window(100.0, 900.0, 1000.0), Random(1)))
    stages = {stage: [a.at for a in arrivals if a.stage == stage] for stage in ("2/s", "8/s", "settling")}
    assert len(stages["2/s"]) / 300 == pytest.approx(2, rel=0.15) and len(stages["8/s"]) > 8 * 300 * 0.9
    assert min(stages["2/s"]) >= 200 and min(stages["8/s"]) >= 600
    assert all(at < 200 or 500 <= at < 600 for at in stages["settling"])


def test_a_trace_keeps_its_sizes_and_plays_faster_on_demand() -> None:
    slow, fast = (list(Replay(CALLS, scale).arrivals(WINDOW, Random(1))) for scale in (1.0, 4.0))
    assert [a.call for a in slow] == list(CALLS) == [a.call for a in fast]
    assert slow[-1].at == 99 and fast[-1].at == pytest.approx(99 / 4)


@pytest.mark.parametrize("scale", [0.3, 0.5, 2.0, 3.5])
def test_a_scaled_trace_has_so_many_times_the_calls_over_the_same_time(scale: float) -> None:
    offsets = times(Replay(CALLS * 20, rate_scale=scale))
    assert len(offsets) == pytest.approx(2000 * scale, rel=0.1)
    assert offsets == sorted(offsets) and 90 < offsets[-1] <= 99.1


@pytest.mark.parametrize("pattern", ALL, ids=lambda pattern: type(pattern).__name__)
def test_equal_seeds_give_equal_schedules_and_the_shares_of_all_workers_are_the_whole(pattern: Pattern) -> None:
    window = Window(10.0, 110.0, 130.0)
    whole = list(pattern.arrivals(window, Random(7)))
    shares = [list(share_of(pattern.arrivals(window, Random(7)), index, 3)) for index in range(3)]
    assert sorted(itertools.chain(*shares), key=lambda a: a.number) == whole
    assert whole and [a.number for a in whole] == list(range(len(whole)))
    assert [a.at for a in whole] == sorted(a.at for a in whole) and whole[-1].at < window.until


@pytest.mark.parametrize("pattern", ALL[:7], ids=lambda pattern: type(pattern).__name__)
def test_a_scaled_pattern_sends_in_proportion(pattern: Pattern) -> None:
    assert len(times(pattern.scaled(3.0))) == pytest.approx(3 * len(times(pattern)), rel=0.15)


def test_thinking_takes_as_long_as_it_should_on_average_and_never_no_time() -> None:
    rng = Random(1)
    pauses = [pause(4.0, rng) for _ in range(4000)]
    assert statistics.mean(pauses) == pytest.approx(4.0, rel=0.05) and min(pauses) > 0
    assert pause(0.0, rng) == 0.0
