"""A circuit breaker around an engine: what opens it, what never does, and how it closes again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from serving.engines.breaker import BreakingEngine, State
from serving.engines.engine import EngineRequest, Tally
from serving.engines.refusals import EngineBusy, EngineMisconfigured
from serving.errors import (
    ContentFiltered,
    ContextTooLong,
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
    InvalidRequest,
    ServingError,
    TooManyRequests,
)

REQUEST = EngineRequest("chat", {}, True, "req_1", "salt")
FAILURES = [EngineUnavailable, EngineTimeout, EngineFailed, EngineMisconfigured]
NEUTRAL = [InvalidRequest, ContextTooLong, ContentFiltered, EngineBusy, TooManyRequests, KeyError]


@dataclass
class Scripted:
    """An Engine that gives `items` and then raises `error`, both after `go`, if there is one."""

    items: tuple[bytes, ...] = (b"a", b"b")
    error: type[Exception] | None = None
    go: asyncio.Event | None = None
    asked: int = 0
    closed: int = 0

    async def answer(self, request: EngineRequest) -> AsyncGenerator[bytes, None]:
        self.asked += 1
        error, items, go = self.error, self.items, self.go
        try:
            if go:
                await go.wait()
            for item in items:
                yield item
            if error:
                raise error
        finally:
            self.closed += 1

    def cut(self) -> None: ...

    async def reckon(self, request_id: str) -> Tally | None:
        return Tally(1, 2, 3)

    async def ready(self) -> bool:
        return True

    async def close(self) -> None: ...


@dataclass
class Bench:
    """A breaker with three failures, 60 s and 10 s, and what one can do to it."""

    works: Scripted = field(default_factory=Scripted)
    now: float = 1000.0
    states: list[State] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._waiting: dict[asyncio.Task[Exception | None], asyncio.Event] = {}
        self.engine = BreakingEngine(
            self.works, failures=3, window=60, open_for=10, on_change=self.states.append, clock=lambda: self.now
        )

    async def ask(self, error: type[Exception] | None = None, *, items: tuple[bytes, ...] = ()) -> Exception | None:
        self.works.error, self.works.items, self.works.go = error, items or (() if error else (b"a", b"b")), None
        return await self._read()

    async def begin(self, error: type[Exception] | None) -> asyncio.Task[Exception | None]:
        """A request that waits for its first token until its `end`."""
        go = asyncio.Event()
        self.works.error, self.works.items, self.works.go = error, () if error else (b"a",), go
        task = asyncio.create_task(self._read())
        self._waiting[task] = go
        await asyncio.sleep(0)
        return task

    async def end(self, task: asyncio.Task[Exception | None]) -> None:
        self._waiting.pop(task).set()
        await asyncio.wait([task])

    async def _read(self) -> Exception | None:
        try:
            async with aclosing(self.engine.answer(REQUEST)) as blocks:
                async for _ in blocks:
                    pass
        except Exception as raised:
            return raised
        return None

    async def open(self) -> Bench:
        for _ in range(3):
            await self.ask(EngineUnavailable)
        assert self.engine.state == "open"
        return self


async def refusal(bench: Bench) -> ServingError:
    asked = bench.works.asked
    error = await bench.ask()
    assert type(error) is EngineUnavailable and bench.works.asked == asked
    return error


@pytest.mark.parametrize("error", FAILURES)
async def test_failures_in_a_row_open_it(error: type[Exception]) -> None:
    bench = Bench()
    for expected in ("closed", "closed", "open"):
        assert isinstance(await bench.ask(error), error)
        assert bench.engine.state == expected
    assert bench.states == ["open"]


async def test_an_answer_that_always_breaks_in_the_middle_opens_it_too() -> None:
    bench = Bench()
    for _ in range(3):
        await bench.ask(EngineFailed, items=(b"a",))
    assert bench.engine.state == "open"


async def test_open_it_refuses_at_once_and_says_truly_when_to_come_back() -> None:
    bench = await Bench().open()
    bench.now += 4
    error = await refusal(bench)
    assert error.retry_after == 6 and error.free
    bench.now += error.retry_after
    assert await bench.ask() is None


@pytest.mark.parametrize("error", NEUTRAL)
async def test_what_a_client_did_wrong_never_opens_it(error: type[Exception]) -> None:
    bench = Bench()
    for _ in range(20):
        assert isinstance(await bench.ask(error), error)
    assert bench.engine.state == "closed" and bench.states == []


@pytest.mark.parametrize("error", NEUTRAL)
async def test_nor_does_it_end_a_row_of_failures(error: type[Exception]) -> None:
    bench = Bench()
    for one in (EngineTimeout, error, EngineTimeout, error, EngineTimeout):
        await bench.ask(one)
    assert bench.engine.state == "open"


async def test_an_answer_ends_a_row() -> None:
    bench = Bench()
    for one in (EngineFailed, EngineFailed, None, EngineFailed, EngineFailed):
        await bench.ask(one)
    assert bench.engine.state == "closed"


async def test_failures_far_apart_are_no_row() -> None:
    bench = Bench()
    for _ in range(5):
        await bench.ask(EngineFailed)
        bench.now += 40
    assert bench.engine.state == "closed"


async def test_a_first_token_closes_it_for_all_and_the_probe_goes_on() -> None:
    bench = await Bench().open()
    bench.now += 10
    async with aclosing(bench.engine.answer(REQUEST)) as probe:
        bench.works.error, bench.works.items = None, (b"a", b"b")
        assert await anext(probe) == b"a"
        assert bench.states == ["open", "half_open", "closed"]
        assert await bench.ask() is None
        assert await anext(probe) == b"b"


async def test_one_request_at_a_time_is_let_through_to_try() -> None:
    bench = await Bench().open()
    bench.now += 10
    probe = await bench.begin(None)
    assert bench.engine.state == "half_open"
    error = await refusal(bench)
    assert error.retry_after and error.retry_after > 0
    await bench.end(probe)
    assert bench.engine.state == "closed"


async def test_a_client_that_leaves_its_probe_has_told_nothing_and_the_next_one_tries() -> None:
    bench = await Bench().open()
    bench.now += 10
    for _ in range(2):
        probe = await bench.begin(None)
        probe.cancel()
        await asyncio.wait([probe])
        assert bench.engine.state == "half_open"
    assert bench.works.closed == bench.works.asked
    await bench.ask()
    assert bench.engine.state == "closed"


async def test_a_client_that_leaves_neither_begins_nor_ends_a_row() -> None:
    bench = Bench()
    for one in (EngineFailed, EngineFailed, "leave", "leave", EngineFailed):
        if one == "leave":
            async with aclosing(bench.engine.answer(REQUEST)) as blocks:
                bench.works.error, bench.works.items = None, (b"a", b"b")
                await anext(blocks)
        else:
            await bench.ask(one)
    assert bench.engine.state == "open" and bench.works.closed == 5


@pytest.mark.parametrize("error", [None, EngineFailed])
async def test_what_began_before_it_opened_says_nothing_about_now(error: type[Exception] | None) -> None:
    bench = Bench()
    late = await bench.begin(error)
    await bench.open()
    bench.now += 10
    probe = await bench.begin(None)
    await bench.end(late)
    assert bench.engine.state == "half_open" and not isinstance(await refusal(bench), EngineFailed)
    await bench.end(probe)
    assert bench.engine.state == "closed"


async def test_ready_is_no_while_it_is_open_and_the_engines_own_word_when_it_may_be_tried() -> None:
    bench = await Bench().open()
    assert not await bench.engine.ready()
    bench.now += 10
    assert await bench.engine.ready() and bench.engine.state == "open"


async def test_what_an_answer_has_cost_is_asked_of_the_engine() -> None:
    assert await Bench().engine.reckon("req_1") == Tally(1, 2, 3)


async def test_a_probe_that_fails_opens_it_for_as_long_again() -> None:
    bench = await Bench().open()
    bench.now += 10
    await bench.ask(EngineTimeout)
    assert bench.states == ["open", "half_open", "open"] and (await refusal(bench)).retry_after == 10


@pytest.mark.parametrize("error", NEUTRAL)
async def test_a_probe_that_says_nothing_neither_closes_nor_opens_it_and_the_next_one_tries(
    error: type[Exception],
) -> None:
    bench = await Bench().open()
    bench.now += 10
    for _ in range(3):
        assert isinstance(await bench.ask(error), error)
        assert bench.engine.state == "half_open"
    assert await bench.ask() is None
    assert bench.engine.state == "closed"


async def test_after_a_probe_that_broke_off_the_next_failure_opens_it_at_once() -> None:
    bench = await Bench().open()
    bench.now += 10
    await bench.ask(EngineFailed, items=(b"a",))
    assert bench.states == ["open", "half_open", "closed", "open"]
