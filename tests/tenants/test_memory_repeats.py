"""What memory alone can promise of repeats: that it has an end."""

from __future__ import annotations

import pytest

from serving.tenants.memory_repeats import ROW, MemoryRepeats
from serving.tenants.repeats import Hold, StillRunning


def attempt(name: object, number: int = 1) -> Hold:
    return Hold(str(name), "body", str(number))


async def kept(repeats: MemoryRepeats, name: object, answer: bytes) -> None:
    assert await repeats.begin(attempt(name)) is None
    await repeats.keep(attempt(name), answer)


async def test_the_oldest_answers_go_when_there_are_too_many_and_those_that_run_stay() -> None:
    repeats = MemoryRepeats(seconds=60, size=3 * (ROW + 1000))
    assert await repeats.begin(attempt("runs")) is None
    for name in range(5):
        await kept(repeats, name, bytes(1000))
    found = [await repeats.begin(attempt(name, 2)) for name in range(5)]
    assert found == [None, None, *[bytes(1000)] * 3]
    with pytest.raises(StillRunning):
        await repeats.begin(attempt("runs", 2))


async def test_small_answers_have_their_weight() -> None:
    repeats = MemoryRepeats(seconds=60, size=10 * ROW)
    for name in range(50):
        await kept(repeats, name, b"")
    assert sum([await repeats.begin(attempt(name, 2)) is not None for name in range(50)]) == 10


async def test_what_has_had_its_time_frees_its_memory() -> None:
    now = 0.0
    repeats = MemoryRepeats(seconds=60, size=2 * (ROW + 1000), clock=lambda: now)
    await kept(repeats, "old", bytes(1000))
    now = 60.0
    await kept(repeats, "new", bytes(1000))
    await kept(repeats, "newer", bytes(1000))
    assert await repeats.begin(attempt("new", 2)) == await repeats.begin(attempt("newer", 2)) == bytes(1000)
