"""What only quotas in memory have: a memory that must not grow."""

from __future__ import annotations

import tracemalloc

import pytest

from serving.tenants.limits import Limits, Subject
from serving.tenants.quotas import QuotaExceeded
from tests.tenants.quota_bench import Bench


async def test_subjects_that_came_and_went_are_forgotten() -> None:
    bench = Bench()
    tracemalloc.start()
    try:
        for number in range(3000):
            bench.now += 1
            limits = Limits(requests_per_minute=9, tokens_per_minute=9, concurrent_requests=9)
            await bench.settle(await bench.reserve(1, {Subject("key", str(number)): limits}))
            if number == 1000:
                before, _ = tracemalloc.get_traced_memory()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 50_000


async def test_what_is_in_flight_or_was_spent_this_month_is_not_forgotten() -> None:
    bench = Bench()
    held, spent = Subject("key", "held"), Subject("key", "spent")
    await bench.reserve(1, {held: Limits(concurrent_requests=1)})
    await bench.settle(await bench.reserve(10, {spent: Limits(tokens_per_month=10)}), 10)
    for number in range(500):
        bench.now += 100
        await bench.reserve(1, {Subject("key", str(number)): Limits(requests_per_minute=1)})
    for subject, limits in ((held, Limits(concurrent_requests=1)), (spent, Limits(tokens_per_month=10))):
        with pytest.raises(QuotaExceeded):
            await bench.reserve(1, {subject: limits})


async def test_two_new_subjects_in_one_claim_do_not_push_each_other_out() -> None:
    bench = Bench()
    limits = {Subject("key", str(number)): Limits(requests_per_minute=1) for number in range(3)}
    await bench.reserve(1, limits)
    for subject in limits:
        with pytest.raises(QuotaExceeded):
            await bench.reserve(1, {subject: Limits(requests_per_minute=1)})
