"""Large requests are taken apart beside the event loop; too many at once are asked to wait."""

from __future__ import annotations

import asyncio
import threading

import pytest

from serving.errors import TooManyRequests
from serving.gateway.large_work import LargeWork
from tests.conftest import OpenSite
from tests.local import RecordingEngine, assert_says_when_to_come_back, chat, error_of


async def test_what_is_large_is_done_in_another_thread_and_what_is_small_here() -> None:
    work = LargeWork(large=100)
    assert await work.run(99, threading.get_ident) == threading.get_ident()
    assert await work.run(100, threading.get_ident) != threading.get_ident()
    await work.close()


async def test_a_gateway_that_was_stopped_can_be_started_again() -> None:
    work = LargeWork(large=100)
    assert await work.run(100, lambda: 1) == 1
    await work.close()
    assert await work.run(100, lambda: 2) == 2
    await work.close()


async def test_what_it_raises_is_raised() -> None:
    work = LargeWork(large=0)
    with pytest.raises(ZeroDivisionError):
        await work.run(1, lambda: 1 / 0)
    await work.close()


async def test_too_many_large_requests_are_told_to_wait_and_small_ones_are_not() -> None:
    work, go = LargeWork(large=100, most=2), threading.Event()
    held = [asyncio.create_task(work.run(100, go.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests) as refused:
        await work.run(100, go.wait)
    assert refused.value.retry_after and await work.run(1, lambda: "small") == "small"
    go.set()
    assert await asyncio.gather(*held) == [True, True]
    assert await work.run(100, lambda: "large") == "large"
    await work.close()


async def test_many_large_bodies_at_a_time_are_429_and_small_ones_go_on(site: OpenSite) -> None:
    class Slow(RecordingEngine):
        go = asyncio.Event()

        async def answer(self, request):  # type: ignore[no-untyped-def]
            await self.go.wait()
            async for item in super().answer(request):
                yield item

    engine = Slow()
    client = site(engine, server={"max_body": 70_000}, gateway={"max_in_flight": 64}).client()
    held = [asyncio.create_task(client.post("/v1/chat/completions", json=chat("x" * 69_000))) for _ in range(40)]
    while sum(task.done() for task in held) < 7:
        await asyncio.sleep(0.01)
    for response in [task.result() for task in held if task.done()]:
        error_of(response, 429, "rate_limit_exceeded")
        assert_says_when_to_come_back(response)
    small = asyncio.create_task(client.post("/v1/chat/completions", json=chat()))
    await asyncio.sleep(0.05)
    engine.go.set()
    assert (await small).status_code == 200
    answers = [(await task).status_code for task in held]
    assert answers.count(200) >= 30
    assert (await client.post("/v1/chat/completions", json=chat("x" * 69_000))).status_code == 200
