"""Asking history: once for each period, within a time, and not again and again while it is away."""

from __future__ import annotations

import asyncio

from serving.tenants.seeds import Seeds
from tests.tenants.quota_bench import KEY, TENANT, FixedHistory


class Bench:
    def __init__(self, timeout: float = 5.0) -> None:
        self.now = 0.0
        self.history = FixedHistory(7)
        self.seeds = Seeds(self.history, timeout=timeout, retry=1.0, clock=lambda: self.now)


async def test_each_period_is_asked_for() -> None:
    bench = Bench()
    assert await bench.seeds.spent([(KEY, 0), (TENANT, 0), (KEY, 86400)]) == [7, 7, 7]
    assert [(subject, since.timestamp()) for subject, since in bench.history.asked] == [
        (KEY, 0),
        (TENANT, 0),
        (KEY, 86400),
    ]


async def test_while_it_is_away_it_is_asked_once_a_second_and_nobody_else_waits() -> None:
    bench = Bench()
    bench.history.away = True
    assert await bench.seeds.spent([(KEY, 0), (TENANT, 0)]) == [None, None]
    for _ in range(9):
        assert not bench.seeds.due()
        assert await bench.seeds.spent([(KEY, 0)]) == [None]
    assert len(bench.history.asked) == 2
    bench.now = 1.0
    bench.history.answers.clear()
    assert bench.seeds.due()
    trying = asyncio.create_task(bench.seeds.spent([(KEY, 0)]))
    await asyncio.sleep(0)
    assert not bench.seeds.due()
    assert await bench.seeds.spent([(KEY, 0)]) == [None]
    bench.history.away = False
    bench.history.answers.set()
    assert await trying == [7]
    assert bench.seeds.due()
    assert await bench.seeds.spent([(TENANT, 0)]) == [7]


async def test_history_that_hangs_is_given_up_after_the_timeout() -> None:
    bench = Bench(timeout=0.02)
    bench.history.answers.clear()
    async with asyncio.timeout(1):
        assert await bench.seeds.spent([(KEY, 0), (TENANT, 0)]) == [None, None]
    assert not bench.seeds.due()


async def test_closing_ends_what_is_being_asked() -> None:
    bench = Bench()
    bench.history.answers.clear()
    asking = asyncio.create_task(bench.seeds.spent([(KEY, 0)]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await bench.seeds.close()
    assert isinstance((await asyncio.gather(asking, return_exceptions=True))[0], asyncio.CancelledError)
