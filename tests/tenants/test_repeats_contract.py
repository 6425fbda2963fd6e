"""What any Repeats promise, checked on each: in memory and in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from serving.tenants.memory_repeats import MemoryRepeats
from serving.tenants.redis_repeats import RedisRepeats
from serving.tenants.repeats import Hold, KeyReused, Repeats, StillRunning
from tests.tenants.quota_bench import empty

ANSWER = bytes(range(256)) * 40
KEEP = 0.4


@pytest.fixture(params=["memory", "redis"])
async def repeats(request: pytest.FixtureRequest) -> AsyncIterator[Repeats]:
    of: Repeats = MemoryRepeats(seconds=KEEP, size=2**20)
    if request.param == "redis":
        of = RedisRepeats(empty(request.getfixturevalue("redis_server")), None, seconds=KEEP, timeout=5.0)
    await of.start()
    try:
        yield of
    finally:
        await of.close()


def attempt(number: int = 1, *, name: str = "name", body: str = "body") -> Hold:
    return Hold(name, body, f"attempt-{number}")


async def first_again(repeats: Repeats, hold: Hold, seconds: float = 5.0) -> None:
    """Wait until the name is free, and hold it."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await is_first(repeats, hold)
            except StillRunning:
                await asyncio.sleep(0.01)


async def is_first(repeats: Repeats, hold: Hold) -> None:
    assert await repeats.begin(hold) is None


async def test_the_first_runs_and_the_others_are_told_to_wait(repeats: Repeats) -> None:
    await is_first(repeats, attempt(1))
    for number in (2, 3):
        with pytest.raises(StillRunning) as error:
            await repeats.begin(attempt(number))
        assert error.value.retry_after is not None and error.value.retry_after >= 1


async def test_of_a_hundred_at_once_exactly_one_is_the_first(repeats: Repeats) -> None:
    said = await asyncio.gather(*(repeats.begin(attempt(number)) for number in range(100)), return_exceptions=True)
    assert sum(one is None for one in said) == 1
    assert sum(isinstance(one, StillRunning) for one in said) == 99


async def test_what_is_kept_is_given_to_every_repeat_byte_for_byte(repeats: Repeats) -> None:
    await is_first(repeats, attempt(1))
    await repeats.keep(attempt(1), ANSWER)
    assert [await repeats.begin(attempt(number)) for number in (2, 3)] == [ANSWER, ANSWER]


async def test_an_empty_answer_is_an_answer(repeats: Repeats) -> None:
    await is_first(repeats, attempt(1))
    await repeats.keep(attempt(1), b"")
    assert await repeats.begin(attempt(2)) == b""


async def test_another_body_is_refused_while_the_first_runs_and_afterwards(repeats: Repeats) -> None:
    await is_first(repeats, attempt(1))
    with pytest.raises(KeyReused):
        await repeats.begin(attempt(2, body="another"))
    await repeats.keep(attempt(1), ANSWER)
    with pytest.raises(KeyReused):
        await repeats.begin(attempt(3, body="another"))
    assert await repeats.begin(attempt(4)) == ANSWER


async def test_names_know_nothing_of_each_other(repeats: Repeats) -> None:
    await is_first(repeats, attempt(1, name="a"))
    await is_first(repeats, attempt(2, name="b", body="another"))


async def test_what_is_released_is_the_next_ones_also_with_another_body(repeats: Repeats) -> None:
    await is_first(repeats, attempt(1))
    repeats.release(attempt(1))
    async with asyncio.timeout(5):
        while True:
            try:
                return await is_first(repeats, attempt(2, body="another"))
            except KeyReused:
                await asyncio.sleep(0.01)


async def test_only_who_holds_a_name_can_release_it_or_keep_an_answer_under_it(repeats: Repeats) -> None:
    await is_first(repeats, attempt(1))
    repeats.release(attempt(2))
    await repeats.keep(attempt(2), b"another's")
    await asyncio.sleep(0.05)
    with pytest.raises(StillRunning):
        await repeats.begin(attempt(3))
    await repeats.keep(attempt(1), ANSWER)
    assert await repeats.begin(attempt(4)) == ANSWER


async def test_a_release_after_the_answer_takes_nothing_away(repeats: Repeats) -> None:
    await is_first(repeats, attempt(1))
    await repeats.keep(attempt(1), ANSWER)
    repeats.release(attempt(1))
    await asyncio.sleep(0.05)
    assert await repeats.begin(attempt(2)) == ANSWER


async def test_an_answer_is_kept_once(repeats: Repeats) -> None:
    await is_first(repeats, attempt(1))
    await repeats.keep(attempt(1), ANSWER)
    await repeats.keep(attempt(1), b"another")
    assert await repeats.begin(attempt(2)) == ANSWER


async def test_an_answer_is_kept_for_its_time_and_not_longer(repeats: Repeats) -> None:
    await is_first(repeats, attempt(1))
    await repeats.keep(attempt(1), ANSWER)
    await asyncio.sleep(KEEP + 0.05)
    await first_again(repeats, attempt(2, body="another"))
