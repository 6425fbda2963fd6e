"""The counters by themselves: what any 60 seconds, a UTC day or month and the requests in flight add up to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.tenants.limits import Limits, Subject
from serving.tenants.quotas import Claim
from serving.tenants.windows import Ask, Period, RequestWindow, TokenWindow, asks_of, day_of, month_of

KEY = Subject("key", "k1")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()


def tokens(amount: int, limit: int) -> Ask:
    return Ask(KEY, "tokens_per_minute", limit, amount)


def test_a_claim_asks_one_request_or_its_tokens_of_each_limit_that_is_set() -> None:
    tenant = Subject("tenant", "ward")
    limits = {KEY: Limits(requests_per_minute=9, concurrent_requests=2), tenant: Limits(tokens_per_day=1000)}
    assert asks_of(Claim("r1", limits, 50)) == [
        Ask(KEY, "requests_per_minute", 9, 1),
        Ask(KEY, "concurrent_requests", 2, 1),
        Ask(tenant, "tokens_per_day", 1000, 50),
    ]


steps = st.lists(st.tuples(st.floats(0, 40), st.integers(1, 12)), max_size=60)


@given(steps)
def test_no_60_seconds_wherever_they_begin_hold_more_than_the_limit(steps: list[tuple[float, int]]) -> None:
    window, now, held = TokenWindow(), NOON, []
    for wait, amount in steps:
        now += wait
        if window.used(now) + amount <= 20:
            window.hold(amount)
            held.append((now, amount))
    for begin, _ in held:
        assert sum(amount for at, amount in held if begin <= at < begin + 60) <= 20


@given(steps, st.integers(1, 20))
def test_what_does_not_fit_fits_when_the_window_says_and_not_a_second_earlier(
    steps: list[tuple[float, int]], amount: int
) -> None:
    window, now = TokenWindow(), NOON
    for wait, held in steps:
        now += wait
        if window.used(now) + held <= 20:
            window.hold(held)
    frees_at = window.read(now, tokens(amount, 20)).frees_at
    if frees_at:
        assert window.used(frees_at - 0.001) + amount > 20
        assert window.used(frees_at) + amount <= 20
    else:
        assert window.used(now) + amount <= 20


@given(steps)
def test_the_window_is_empty_when_it_says_and_not_earlier(steps: list[tuple[float, int]]) -> None:
    window, now = TokenWindow(), NOON
    for wait, amount in steps:
        now += wait
        window.used(now)
        window.hold(amount)
        empty_at = window.empty_at()
        assert now + 60 < empty_at <= now + 61
    if steps:
        assert window.used(empty_at - 0.001) > 0
        assert window.used(empty_at) == 0


@pytest.mark.parametrize(("spent", "left"), [(0, 0), (30, 30), (100, 100), (150, 150)])
def test_tokens_are_corrected_in_the_second_in_which_they_were_held(spent: int, left: int) -> None:
    window = TokenWindow()
    window.used(NOON)
    slot = window.hold(100)
    window.settle(NOON + 59, slot, 100, spent)
    assert window.used(NOON + 60.9) == left
    assert window.used(NOON + 61) == 0


@pytest.mark.parametrize("late", [61, 62, 1000, 100_000])
def test_a_correction_after_the_minute_changes_nothing(late: float) -> None:
    window = TokenWindow()
    window.used(NOON)
    slot = window.hold(100)
    window.used(NOON + late)
    window.hold(7)
    window.settle(NOON + late, slot, 100, 900)
    assert window.used(NOON + late) == 7


def test_requests_stay_counted_when_they_end() -> None:
    window = RequestWindow()
    window.used(NOON)
    window.settle(NOON, window.hold(1), 1, 0)
    assert window.used(NOON) == 1


def test_a_clock_that_is_set_back_a_little_loses_nothing_and_one_set_back_far_does_not_block_for_hours() -> None:
    window = TokenWindow()
    window.used(NOON)
    slot = window.hold(5)
    assert window.used(NOON - 30) == 5
    assert window.used(NOON - 3600) == 0
    window.settle(NOON - 3600, slot, 5, 0)
    assert window.used(NOON - 3600) == 0


def test_a_period_forgets_what_was_spent_at_its_end_and_not_what_is_held() -> None:
    period = Period(day_of)
    period.seed(day_of(NOON)[0], 10)  # nobody has looked at it yet, so it has no day
    period.used(NOON)
    period.seed(day_of(NOON)[0], 10)
    period.hold(5)
    assert period.used(NOON) == 15
    assert period.used(NOON + 12 * 3600 - 0.001) == 15
    assert period.used(NOON + 12 * 3600) == 5
    period.settle(NOON + 12 * 3600, 0, 5, 3)
    assert period.used(NOON + 12 * 3600) == 3


def test_a_seed_counts_once_only_for_its_period_and_not_on_top_of_what_was_spent_here() -> None:
    period, today = Period(day_of), day_of(NOON)[0]
    assert period.unseeded(NOON) == today
    period.hold(0)
    period.settle(NOON, 0, 0, 30)
    period.seed(today - 86400, 500)
    assert period.used(NOON) == 30
    period.seed(today, 100)
    assert period.unseeded(NOON) is None
    period.seed(today, 1000)
    assert period.used(NOON) == 100


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))
def test_days_and_months_are_those_of_utc(at: datetime) -> None:
    now = at.replace(tzinfo=UTC)
    for span, begins in ((day_of, now), (month_of, now.replace(day=1))):
        start, end = (datetime.fromtimestamp(second, UTC) for second in span(now.timestamp()))
        assert start == begins.replace(hour=0, minute=0, second=0, microsecond=0)
        assert start <= now < end
        last = end - timedelta(seconds=1)
        assert (last.year, last.month, (end.day, end.hour)) == (now.year, now.month, (end.day, 0))
    assert end.day == 1
