"""What any Quotas promise, checked on each: in memory and in a real Redis. Time is the test's, so nothing sleeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from serving.tenants.limits import Limits, Subject
from serving.tenants.quotas import BudgetExhausted, QuotaExceeded, RateState, RequestTooLarge, Usage
from tests.tenants.quota_bench import DEPLOYMENT, KEY, NOON, TENANT, Bench, empty, running, until

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC).timestamp()
APRIL = datetime(2026, 4, 1, tzinfo=UTC).timestamp()
DAYS = ["tokens_per_day", "tokens_per_month"]
KINDS = ["requests_per_minute", "tokens_per_minute", *DAYS, "concurrent_requests"]


@pytest.fixture(params=["memory", "redis"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    bench = Bench()
    if request.param == "redis":
        bench.in_redis(empty(request.getfixturevalue("redis_server")))
    async with running(bench):
        yield bench


async def refused(
    bench: Bench, tokens: int = 1, limits: dict[Subject, Limits] | None = None, **more: int
) -> QuotaExceeded:
    with pytest.raises(QuotaExceeded) as error:
        await bench.reserve(tokens, limits, **more)
    return error.value


async def room(bench: Bench, **limits: int) -> int:
    """How many claims of one token still fit; they are held to find out."""
    for count in range(1000):
        try:
            await bench.reserve(**limits)
        except QuotaExceeded:
            return count
    raise AssertionError("there seems to be no limit")


async def test_without_limits_everything_is_admitted_and_has_no_rates(bench: Bench) -> None:
    lease = await bench.reserve(10**12, {KEY: Limits(), TENANT: Limits()})
    assert (lease.requests, lease.tokens) == (None, None)
    lease.settle(Usage(completion=5))


@pytest.mark.parametrize("kind", KINDS)
async def test_each_limit_is_reached_exactly_and_the_same_claim_fits_after_the_wait(bench: Bench, kind: str) -> None:
    leases = [await bench.reserve(**{kind: 3}) for _ in range(3)]
    error = await refused(bench, **{kind: 3})
    assert error.retry_after is not None and error.retry_after > 0
    if kind == "concurrent_requests":
        await bench.settle(leases[0])
    elif kind in DAYS:
        assert error.retry_after == 1.0  # they may give some back, and not only at midnight
        for lease in leases:
            await bench.settle(lease, 1)
        error = await refused(bench, **{kind: 3})
        assert error.retry_after is not None and error.retry_after > 1
    bench.now += error.retry_after
    await bench.reserve(**{kind: 3})


@pytest.mark.parametrize(
    ("kind", "error", "wait"),
    [
        ("requests_per_minute", QuotaExceeded, 60.5),
        ("tokens_per_minute", QuotaExceeded, 60.5),
        ("tokens_per_day", BudgetExhausted, MIDNIGHT - NOON - 0.5),
        ("tokens_per_month", BudgetExhausted, APRIL - NOON - 0.5),
        ("concurrent_requests", QuotaExceeded, 1.0),
    ],
)
async def test_the_wait_is_until_enough_expires_or_the_next_day_or_month(
    bench: Bench, kind: str, error: type[QuotaExceeded], wait: float
) -> None:
    bench.now += 0.5
    lease = await bench.reserve(**{kind: 1})
    if kind in DAYS:
        await bench.settle(lease, 1)
    found = await refused(bench, **{kind: 1})
    assert (type(found), found.retry_after) == (error, wait)


async def test_the_wait_is_for_as_many_seconds_of_the_window_as_the_claim_needs(bench: Bench) -> None:
    for _ in range(4):
        await bench.reserve(25, tokens_per_minute=100)
        bench.now += 10
    for tokens, wait in ((25, 21), (26, 31), (100, 51)):
        assert (await refused(bench, tokens, tokens_per_minute=100)).retry_after == wait
    bench.now += 31
    await bench.reserve(50, tokens_per_minute=100)
    assert (await refused(bench, 1, tokens_per_minute=100)).retry_after == 10


async def test_of_several_limits_that_are_reached_the_longest_wait_is_told(bench: Bench) -> None:
    limits = {
        KEY: Limits(requests_per_minute=1, concurrent_requests=1),
        TENANT: Limits(tokens_per_day=1),
        DEPLOYMENT: Limits(tokens_per_minute=1),
    }
    await bench.settle(await bench.reserve(1, limits), 1)
    error = await refused(bench, 1, limits)
    assert type(error) is BudgetExhausted and error.retry_after == MIDNIGHT - NOON
    bench.now = MIDNIGHT - 30
    await bench.reserve(0, limits)
    error = await refused(bench, 1, limits)
    assert type(error) is QuotaExceeded and error.retry_after == 61
    bench.now += 61
    error = await refused(bench, 1, limits)
    assert "concurrent requests" in error.message and error.retry_after == 1.0


async def test_what_one_limit_refuses_is_held_on_no_other(bench: Bench) -> None:
    open_limits = Limits(*[100] * 5)
    blocked = {KEY: open_limits, TENANT: open_limits, DEPLOYMENT: Limits(concurrent_requests=1)}
    await bench.reserve(1, {DEPLOYMENT: Limits(concurrent_requests=1)})
    for _ in range(200):
        assert (await refused(bench, 1, blocked)).requests == RateState(100, 100, 0.0)
    for kind in KINDS:
        assert await room(bench, **{kind: 5}) == 5
        bench.now += 86400 * 31


@pytest.mark.parametrize("kind", ["tokens_per_minute", *DAYS])
@pytest.mark.parametrize(("spent", "left"), [(0, 10), (4, 6), (10, 0), (14, 0)])
async def test_what_was_reserved_but_not_spent_comes_back(bench: Bench, kind: str, spent: int, left: int) -> None:
    lease = await bench.reserve(10, **{kind: 10})
    await refused(bench, 1, **{kind: 10})
    await bench.settle(lease, spent)
    assert await room(bench, **{kind: 10}) == left


async def test_spending_more_than_was_reserved_counts(bench: Bench) -> None:
    limits = {KEY: Limits(tokens_per_minute=100, tokens_per_day=100)}
    lease = await bench.reserve(10, limits)
    await bench.settle(lease, 95)
    await bench.reserve(5, limits)
    await refused(bench, 1, limits)


async def test_settling_again_changes_nothing(bench: Bench) -> None:
    limits = {KEY: Limits(tokens_per_minute=100, tokens_per_day=100, concurrent_requests=2)}
    first, _ = await bench.reserve(10, limits), await bench.reserve(10, limits)
    await bench.settle(first, 5)
    for spent in (5, 0, 50):
        first.settle(Usage(completion=spent))
    await bench.settle(await bench.reserve(85, limits), 85)
    await bench.reserve(0, limits)
    assert "concurrent" in (await refused(bench, 0, limits)).message
    assert bench.settled == {"settled": 2}


async def test_a_settlement_after_the_minute_does_not_touch_the_window(bench: Bench) -> None:
    lease = await bench.reserve(10, tokens_per_minute=10)
    bench.now += 61
    await bench.reserve(7, tokens_per_minute=10)
    await bench.settle(lease, 500)
    assert await room(bench, tokens_per_minute=10) == 3


@pytest.mark.parametrize(("kind", "later"), [("tokens_per_day", MIDNIGHT), ("tokens_per_month", APRIL)])
async def test_a_request_over_midnight_is_held_throughout_and_spends_in_the_new_day(
    bench: Bench, kind: str, later: float
) -> None:
    await bench.settle(await bench.reserve(40, **{kind: 100}), 40)
    lease = await bench.reserve(60, **{kind: 100})
    bench.now = later - 0.001
    await refused(bench, 1, **{kind: 100})
    bench.now = later
    await refused(bench, 41, **{kind: 100})
    await bench.settle(lease, 30)
    await refused(bench, 71, **{kind: 100})
    await bench.reserve(70, **{kind: 100})


async def test_a_request_above_a_whole_limit_is_told_that_waiting_does_not_help(bench: Bench) -> None:
    for kind in ("tokens_per_minute", *DAYS):
        error = await refused(bench, 101, {TENANT: Limits(**{kind: 100}), KEY: Limits(requests_per_minute=9)})
        assert type(error) is RequestTooLarge and error.retry_after is None
        assert "101 tokens" in error.message and "100 tokens per" in error.message and "max_tokens" in error.message
        assert error.requests == RateState(9, 9, 0.0)


async def test_the_rates_are_those_of_the_tightest_limit_and_of_the_last_second_that_counts(bench: Bench) -> None:
    limits = {KEY: Limits(10, 1000), TENANT: Limits(5, 10_000), DEPLOYMENT: Limits(concurrent_requests=9)}
    first = await bench.reserve(100, limits)
    assert (first.requests, first.tokens) == (RateState(5, 4, 61.0), RateState(1000, 900, 61.0))
    bench.now += 20.25
    second = await bench.reserve(900, limits)
    assert (second.requests, second.tokens) == (RateState(5, 3, 60.75), RateState(1000, 0, 60.75))
    error = await refused(bench, 1, limits)
    assert (error.requests, error.tokens) == (RateState(5, 3, 60.75), RateState(1000, 0, 60.75))
    await bench.settle(second, 0)
    third = await bench.reserve(0, limits)
    assert (third.requests, third.tokens) == (RateState(5, 2, 60.75), RateState(1000, 900, 40.75))


async def test_rates_are_never_below_zero(bench: Bench) -> None:
    await bench.settle(await bench.reserve(10, tokens_per_minute=10), 50)
    assert (await refused(bench, 1, tokens_per_minute=10)).tokens == RateState(10, 0, 61.0)


async def test_limits_may_be_lowered_raised_removed_and_set_again_between_calls(bench: Bench) -> None:
    for _ in range(5):
        await bench.reserve(requests_per_minute=10)
    await refused(bench, requests_per_minute=3)
    await bench.reserve(requests_per_minute=6)
    for _ in range(9):
        await bench.reserve(tokens_per_minute=100)
    assert await room(bench, requests_per_minute=10) == 4


async def test_a_lease_gives_back_what_it_held_also_when_the_limit_is_gone(bench: Bench) -> None:
    lease = await bench.reserve(concurrent_requests=1)
    await bench.reserve(requests_per_minute=1)
    await bench.settle(lease)
    await bench.reserve(concurrent_requests=1)


async def test_subjects_do_not_share_even_with_the_same_or_a_strange_id(bench: Bench) -> None:
    strange = ["a", "a:b", "{x}", "*", "", " ", "\n", "ä" * 500, "\ud800", "\0"]
    for subject in [Subject("key", "same"), Subject("tenant", "same"), *(Subject("tenant", id) for id in strange)]:
        await bench.reserve(1, {subject: Limits(requests_per_minute=1)})
        await refused(bench, 1, {subject: Limits(requests_per_minute=1)})


@pytest.mark.parametrize(
    ("subject", "limits", "message"),
    [
        (
            KEY,
            Limits(requests_per_minute=2),
            "This key has used 2 of its 2 requests per minute. Please retry after 61 seconds.",
        ),
        (
            TENANT,
            Limits(tokens_per_minute=100),
            "The tenant has used 80 of its 100 tokens per minute, and this request reserves 40. "
            "Please retry after 61 seconds.",
        ),
        (
            TENANT,
            Limits(tokens_per_day=100),
            "The tenant has used 0 of its 100 tokens per day, requests in flight hold 80 more, and this request "
            "reserves 40. Please retry after 1 second.",
        ),
        (
            DEPLOYMENT,
            Limits(concurrent_requests=2),
            "The deployment 'gpt-4o' has 2 requests in flight and its limit is 2 concurrent requests. "
            "Please retry after 1 second.",
        ),
    ],
)
async def test_a_refusal_names_whose_limit_it_is_what_is_used_and_the_wait(
    bench: Bench, subject: Subject, limits: Limits, message: str
) -> None:
    for _ in range(2):
        await bench.reserve(40, {subject: limits})
    assert (await refused(bench, 40, {subject: limits})).message == message


@pytest.mark.parametrize("kind", DAYS)
async def test_a_counter_of_a_day_or_month_begins_with_what_history_says_once(bench: Bench, kind: str) -> None:
    bench.history.tokens = 90
    lease = await bench.reserve(10, **{kind: 100})
    await refused(bench, 1, **{kind: 100})
    await bench.settle(lease, 10)
    await refused(bench, 1, **{kind: 100})
    (asked,) = bench.history.asked
    assert asked == (KEY, datetime(2026, 3, 1, tzinfo=UTC))


async def test_history_is_asked_again_for_the_next_day_and_not_for_the_month(bench: Bench) -> None:
    both = {TENANT: Limits(tokens_per_day=100, tokens_per_month=1000)}
    bench.now = MIDNIGHT
    await bench.reserve(1, both)
    bench.history.tokens = 99
    bench.now += 86400
    await bench.reserve(0, both)
    await refused(bench, 1, both)
    second, third = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC)
    asked = [since for _, since in bench.history.asked]
    assert asked == [second, datetime(2026, 3, 1, tzinfo=UTC), third]


async def test_history_is_asked_once_for_many_requests_that_come_together(bench: Bench) -> None:
    bench.history.tokens = 95
    bench.history.answers.clear()
    claims = [asyncio.create_task(bench.reserve(tokens_per_day=100)) for _ in range(20)]
    await until(lambda: bool(bench.history.asked))
    await asyncio.sleep(0.02)
    claims[0].cancel()
    bench.history.answers.set()
    results = await asyncio.gather(*claims, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert sum(isinstance(result, QuotaExceeded) for result in results) == 14
    assert len(bench.history.asked) == 1


async def test_without_history_counting_begins_at_zero_and_history_is_not_asked_for_each_request(bench: Bench) -> None:
    bench.history.away = True
    await bench.settle(await bench.reserve(10, tokens_per_day=100), 10)
    for _ in range(5):
        await bench.reserve(10, tokens_per_day=100)
    await refused(bench, 50, tokens_per_day=100)
    assert len(bench.history.asked) == 1
