"""Lanes: lines of batches wait for those who wait, and for nobody when nobody does."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack

from serving.deployments.lanes import Lanes
from serving.deployments.pace import Pace
from tests.leaping import leaping


class Still(Pace):
    """A pace that stays as it is and keeps what it hears."""

    def __init__(self, rate: float) -> None:
        super().__init__(rate)
        self.heard: list[tuple[float, bool]] = []

    def waited(self, seconds: float, *, alone: bool) -> None:
        self.heard.append((seconds, alone))


def now() -> float:
    return asyncio.get_running_loop().time()


async def run_lines(lanes: Lanes, count: int, began: list[float], seconds: float = 0.1) -> None:
    async def one() -> None:
        async with lanes.line():
            began.append(now())
            await asyncio.sleep(seconds)

    await asyncio.gather(*(one() for _ in range(count)))


def test_with_nobody_else_here_lines_fill_the_slots() -> None:
    async def main() -> None:
        lanes, began = Lanes(slots=4, pace=Still(1)), []
        await run_lines(lanes, 8, began, seconds=1)
        assert began == [0] * 4 + [1] * 4

    leaping(main())


def test_beside_those_who_wait_lines_come_at_the_pace() -> None:
    async def main() -> None:
        lanes, began = Lanes(slots=100, pace=Still(4)), []
        async with lanes.interactive():
            await run_lines(lanes, 9, began)
        gaps = [b - a for a, b in itertools.pairwise(began)]
        assert all(0.24 < gap < 0.26 for gap in gaps), began

    leaping(main())


def test_who_was_just_answered_counts_as_here_for_a_moment() -> None:
    async def main() -> None:
        lanes, began = Lanes(slots=100, pace=Still(0.5), quiet=3), []
        async with lanes.interactive():
            await asyncio.sleep(1)
        await run_lines(lanes, 10, began, seconds=0)
        assert began[:2] == [1, 3] and all(3.99 < time < 4.01 for time in began[2:])

    leaping(main())


def test_slots_hold_beside_interactive_requests_too() -> None:
    async def main() -> None:
        lanes, began = Lanes(slots=2, pace=Still(100)), []
        async with lanes.interactive():
            await run_lines(lanes, 4, began, seconds=5)
        assert began[1] < 1 and began[2] >= 5

    leaping(main())


def test_a_line_that_gives_up_leaves_its_place_to_the_next() -> None:
    async def main() -> None:
        lanes, began = Lanes(slots=1, pace=Still(1)), []
        async with lanes.line():
            waiting = [asyncio.create_task(run_lines(lanes, 1, began)) for _ in range(3)]
            await asyncio.sleep(0)
            waiting[0].cancel()
        waiting[1].cancel()  # in the moment in which its turn has come
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(result, asyncio.CancelledError) for result in results] == [True, True, False]
        assert len(began) == 1
        async with asyncio.timeout(1), lanes.line():
            pass

    leaping(main())


def test_a_line_that_breaks_leaves_its_place() -> None:
    async def main() -> None:
        lanes = Lanes(slots=1, pace=Still(1))
        for _ in range(3):
            try:
                async with lanes.line():
                    raise ValueError
            except ValueError:
                pass
        async with asyncio.timeout(1), lanes.line():
            pass

    leaping(main())


def scope(*, lane: bytes | None = None, method: str = "POST") -> dict[str, object]:
    headers = [(b"x-clinserve-lane", lane)] if lane else []
    return {"type": "http", "method": method, "headers": headers}


async def ignore(message: object) -> None: ...


async def stream(lanes: Lanes, first_token: float) -> None:
    """One interactive stream."""
    lane, send = lanes.of(scope(), ignore)
    async with lane:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(first_token)
        await send({"type": "http.response.body", "body": b"data: 1", "more_body": True})
        await asyncio.sleep(5)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def test_the_pace_hears_when_first_tokens_left_and_whether_a_line_was_there() -> None:
    async def main() -> None:
        pace = Still(100)
        lanes = Lanes(slots=4, pace=pace)
        await stream(lanes, 0.25)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(lanes.of(scope(lane=b"batch"), ignore)[0])
            await stream(lanes, 0.5)
        line = asyncio.create_task(run_lines(lanes, 1, [], seconds=0.01))
        await stream(lanes, 1.0)  # the line came and went meanwhile
        await line
        assert pace.heard == [(0.25, True), (0.5, False), (1.0, False)]

    leaping(main())


def test_answers_in_one_piece_and_reads_teach_the_pace_nothing() -> None:
    async def main() -> None:
        pace = Still(100)
        lanes = Lanes(slots=4, pace=pace)
        lane, send = lanes.of(scope(), ignore)
        async with lane:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})
        lane, send = lanes.of(scope(method="GET"), ignore)
        async with lane:
            assert send is ignore
        assert pace.heard == []

    leaping(main())


def test_a_line_waits_no_longer_than_the_quiet_after_a_long_day_of_requests() -> None:
    """No timer is lost, whatever the order of arrivals and ends."""

    async def main() -> None:
        lanes, began = Lanes(slots=3, pace=Still(0.5), quiet=3), []
        lines = asyncio.create_task(run_lines(lanes, 40, began, seconds=2))
        for number in range(30):
            async with lanes.interactive():
                await asyncio.sleep(0.3 * (number % 5))
            await asyncio.sleep(0.7 * (number % 7))
        await lines
        assert len(began) == 40

    leaping(main())
