"""Lines of all batches share a budget of bytes."""

from __future__ import annotations

import asyncio

from serving.batches.memory import ByteBudget


async def test_who_finds_no_room_waits_until_there_is_some() -> None:
    budget = ByteBudget(10)
    await budget.take(6)
    waiting = asyncio.create_task(budget.take(5))
    await asyncio.sleep(0)
    assert not waiting.done()
    budget.give_back(6)
    await waiting


async def test_who_came_first_gets_in_first_however_large() -> None:
    budget, order = ByteBudget(10), []

    async def take(size: int) -> None:
        await budget.take(size)
        order.append(size)
        budget.give_back(size)

    await budget.take(8)
    tasks = [asyncio.create_task(take(size)) for size in (7, 1, 2)]
    await asyncio.sleep(0)
    budget.give_back(8)
    await asyncio.gather(*tasks)
    assert order == [7, 1, 2]


async def test_one_that_is_larger_than_all_gets_in_alone() -> None:
    budget = ByteBudget(10)
    await budget.take(50)
    other = asyncio.create_task(budget.take(1))
    await asyncio.sleep(0)
    assert not other.done()
    budget.give_back(50)
    await other


async def test_who_leaves_while_waiting_keeps_nobody_out() -> None:
    budget = ByteBudget(10)
    await budget.take(8)
    left, other = asyncio.create_task(budget.take(9)), asyncio.create_task(budget.take(2))
    await asyncio.sleep(0)
    left.cancel()
    await other
    budget.give_back(8)
    budget.give_back(2)
    await budget.take(10)
