"""The waiting room: places, time, what is said to who gets none, and what lines of batches may do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from serving.engines.waiting import Ending, HoldLimits, WaitingRoom, time_left
from serving.errors import EngineStarting, EngineUnavailable


@dataclass
class Sleeper:
    """A deployment that sleeps, its clock, and what a waiting room of its own has told."""

    up: asyncio.Event = field(default_factory=asyncio.Event)
    now: float = 0.0
    starts: Sequence[float] = (60.0,)
    woken: int = 0
    counts: list[int] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)

    async def wake(self) -> None:
        self.woken += 1
        await self.up.wait()

    async def last(self) -> Sequence[float]:
        return self.starts

    def room(self, **limits: float) -> WaitingRoom:
        return WaitingRoom(
            HoldLimits(**limits),  # type: ignore[arg-type]
            starts=self,
            on_count=self.counts.append,
            on_end=lambda ending, seconds: self.endings.append(ending),
            clock=lambda: self.now,
        )


async def refused(room: WaitingRoom, sleeper: Sleeper, *, line: bool = False) -> float:
    """The Retry-After."""
    with pytest.raises(EngineStarting) as caught:
        await room.hold(sleeper.wake, line=line)
    assert caught.value.status == 503 and caught.value.free and caught.value.retry_after is not None
    return caught.value.retry_after


async def test_a_request_is_held_until_a_replica_runs() -> None:
    sleeper = Sleeper()
    room = sleeper.room()
    held = [asyncio.create_task(room.hold(sleeper.wake)) for _ in range(3)]
    await asyncio.sleep(0.01)
    assert sleeper.woken == 3 and sleeper.counts == [1, 2, 3] and not any(task.done() for task in held)
    sleeper.up.set()
    await asyncio.gather(*held)
    assert sleeper.endings == ["woken"] * 3 and sleeper.counts[-1] == 0


async def test_a_client_that_leaves_frees_its_place() -> None:
    sleeper = Sleeper()
    room = sleeper.room(requests=1)
    held = asyncio.create_task(room.hold(sleeper.wake))
    await asyncio.sleep(0.01)
    await refused(room, sleeper)
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)
    again = asyncio.create_task(room.hold(sleeper.wake))
    await asyncio.sleep(0.01)
    sleeper.up.set()
    await again
    assert sleeper.endings == ["full", "left", "woken"] and sleeper.counts == [1, 0, 1, 0]


async def test_when_the_time_is_up_it_is_503_with_what_is_left_of_a_usual_start() -> None:
    sleeper = Sleeper(starts=[90.0, 100.0, 110.0])
    room = sleeper.room(seconds=0.05)
    held = asyncio.create_task(refused(room, sleeper))
    await asyncio.sleep(0.01)
    sleeper.now = 60.0
    assert await held == 40.0 and sleeper.endings == ["expired"]
    sleeper.now = 95.0
    assert await refused(room, sleeper) == 10.0  # of the same start; by those that took longer


async def test_with_no_place_left_it_is_503_at_once() -> None:
    sleeper = Sleeper(starts=[30.0])
    assert await refused(sleeper.room(requests=0), sleeper) == 30.0
    assert sleeper.endings == ["full"]


async def test_a_replica_is_asked_for_although_whoever_asked_is_gone() -> None:
    sleeper = Sleeper()
    room = sleeper.room(requests=0)
    await refused(room, sleeper)
    await asyncio.sleep(0.01)
    assert sleeper.woken == 1
    await refused(room, sleeper)
    await asyncio.sleep(0.01)
    assert sleeper.woken == 1, "it is being asked for"
    await room.close()


async def test_a_next_start_is_counted_from_its_own_beginning() -> None:
    sleeper = Sleeper(starts=[90.0])
    room = sleeper.room(seconds=0.02)
    assert await refused(room, sleeper) == 90.0
    sleeper.now = 1000.0
    room.seen_awake()
    assert await refused(room, sleeper) == 90.0


async def test_a_start_that_does_not_end_is_given_up_and_counted_anew() -> None:
    sleeper = Sleeper(starts=[10.0])
    room = sleeper.room(seconds=0.02)
    await refused(room, sleeper)
    sleeper.now = 30.0
    assert await refused(room, sleeper) == 15.0  # overdue
    sleeper.now = 40.0
    assert await refused(room, sleeper) == 10.0


async def test_what_cannot_be_woken_is_told_as_it_is() -> None:
    async def nobody() -> None:
        raise EngineUnavailable

    sleeper = Sleeper()
    with pytest.raises(EngineUnavailable) as caught:
        await sleeper.room().hold(nobody)
    assert not isinstance(caught.value, EngineStarting) and sleeper.endings == ["failed"]


async def test_one_line_wakes_for_all_and_takes_no_place_of_those_who_wait() -> None:
    sleeper = Sleeper(starts=[90.0])
    room = sleeper.room(requests=1)
    line = asyncio.create_task(room.hold(sleeper.wake, line=True))
    await asyncio.sleep(0.01)
    assert await refused(room, sleeper, line=True) == 90.0
    person = asyncio.create_task(room.hold(sleeper.wake))
    await asyncio.sleep(0.01)
    assert sleeper.woken == 2 and sleeper.counts == [1, 2]
    sleeper.up.set()
    await asyncio.gather(line, person)


async def test_a_line_does_not_wait_for_what_others_have_woken() -> None:
    sleeper = Sleeper(starts=[90.0])
    room = sleeper.room()
    person = asyncio.create_task(room.hold(sleeper.wake))
    await asyncio.sleep(0.01)
    sleeper.now = 50.0
    assert await refused(room, sleeper, line=True) == 40.0
    sleeper.up.set()
    await person


async def test_lines_wake_only_so_often() -> None:
    sleeper = Sleeper(starts=[90.0])
    room = sleeper.room(lines_every=900.0)
    sleeper.up.set()
    await room.hold(sleeper.wake, line=True)
    sleeper.now = 300.0
    assert await refused(room, sleeper, line=True) == 600.0
    await room.hold(sleeper.wake)  # who waits for an answer may, at any time
    sleeper.now = 900.0
    await room.hold(sleeper.wake, line=True)
    assert sleeper.woken == 3


@pytest.mark.parametrize(
    ("starts", "elapsed", "left"),
    [
        ([60.0], 0.0, 60.0),
        ([60.0], 59.9, 1.0),
        ([30.0, 40.0, 300.0], 0.0, 40.0),
        ([30.0, 40.0, 300.0], 35.0, 135.0),
        ([30.0], 35.0, 17.5),
        ([2.0], 3.0, 5.0),
    ],
)
def test_how_long_a_start_still_takes(starts: list[float], elapsed: float, left: float) -> None:
    assert time_left(starts, elapsed) == pytest.approx(left)
