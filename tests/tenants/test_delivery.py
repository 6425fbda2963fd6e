"""Deliveries to a store that is away, full or broken: everything arrives, or is reported as lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from serving.tenants.delivery import BATCH, Delivery


class Store:
    """Takes what comes. fails: how many batches it refuses first; partly: it keeps odd numbers out of the next one."""

    def __init__(self, fails: int = 0, *, partly: bool = False) -> None:
        self.fails = fails
        self.partly = partly
        self.batches: list[list[int]] = []
        self.lost: list[int] = []

    async def send(self, batch: Sequence[int]) -> list[int]:
        await asyncio.sleep(0)
        if self.fails:
            self.fails -= 1
            return list(batch)
        odd = [number for number in batch if number % 2] if self.partly else []
        self.partly = False
        self.batches.append([number for number in batch if number not in odd])
        return odd

    @property
    def arrived(self) -> list[int]:
        return sorted(number for batch in self.batches for number in batch)


def delivery(store: Store, size: int = 1000) -> Delivery[int]:
    return Delivery(store.send, size=size, on_lost=store.lost.append)


@pytest.mark.parametrize("store", [Store(), Store(fails=1), Store(partly=True)])
async def test_everything_arrives_once_before_the_end(store: Store) -> None:
    sending = delivery(store)
    sending.start()
    for number in range(250):
        sending.put(number)
    await sending.close(5)
    assert store.arrived == list(range(250)) and not store.lost
    assert max(len(batch) for batch in store.batches) <= BATCH


async def test_what_has_not_arrived_in_time_is_lost_and_so_is_what_comes_afterwards() -> None:
    store = Store(fails=100)
    sending = delivery(store)
    sending.start()
    for number in range(3):
        sending.put(number)
    await sending.close(0.02)
    sending.put(3)
    assert store.lost == [0, 1, 2, 3]


async def test_what_never_began_to_send_loses_at_once() -> None:
    store = Store()
    sending = delivery(store)
    sending.put(1)
    async with asyncio.timeout(1):
        await sending.close(30)
    assert store.lost == [1]


async def test_above_its_size_it_loses_the_newest() -> None:
    store = Store()
    sending = delivery(store, size=2)
    for number in range(4):
        sending.put(number)
    assert store.lost == [2, 3]
    sending.start()
    await sending.close(5)
    assert store.arrived == [0, 1]


async def test_a_mistake_in_sending_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    store, mistakes = Store(), [ZeroDivisionError()]

    async def send(batch: Sequence[int]) -> list[int]:
        if mistakes:
            raise mistakes.pop()
        return await store.send(batch)

    sending = Delivery(send, size=9, on_lost=store.lost.append)
    sending.start()
    sending.put(1)
    await sending.close(5)
    assert store.arrived == [1] and "1 things could not be sent" in caplog.text
