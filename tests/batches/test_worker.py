"""Workers: they find what nobody works on, share it, and leave it to others in order."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from serving.batches.batch import OPEN
from serving.batches.worker import BatchWorker
from serving.tenants.stores import StoreUnavailable
from tests.batches.workshop import Workshop, answer, ids
from tests.local import eventually


@asynccontextmanager
async def working(workshop: Workshop, **changes: Any) -> AsyncIterator[BatchWorker]:
    worker = BatchWorker(workshop.bench(), asyncio.Event(), poll=0.02, **changes)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.close()


def open_batches(workshop: Workshop) -> int:
    return sum(batch.status in OPEN for batch in workshop._everything())


async def test_batches_are_run_as_they_come(workshop: Workshop) -> None:
    async with working(workshop):
        for _ in range(5):
            await workshop.submit(3)
        await eventually(lambda: open_batches(workshop) == 0)
    assert {batch.status for batch in workshop._everything()} == {"completed"}


async def test_two_workers_run_each_line_once(workshop: Workshop) -> None:
    for _ in range(8):
        await workshop.submit(4)
    workshop.lines.reply = lambda body, attempt: answer()
    async with working(workshop, most=2), working(workshop, most=2):
        await eventually(lambda: open_batches(workshop) == 0)
    assert workshop.lines.ran.total() == 32


async def test_a_batch_of_a_worker_that_stops_is_taken_at_once(workshop: Workshop) -> None:
    workshop.lines.gate = asyncio.Event()
    async with working(workshop):
        batch = await workshop.submit(20)
        await eventually(lambda: workshop.lines.ran.total() == 4)
        asyncio.get_running_loop().call_later(0.05, workshop.lines.gate.set)
    ran = workshop.read(batch).completed
    assert 4 <= ran < 20
    assert workshop.store.claim(workshop.now, workshop.now + timedelta(seconds=1))  # not later: nobody holds it
    workshop.pass_time(5)
    async with working(workshop):
        await eventually(lambda: open_batches(workshop) == 0)
    output, _ = await workshop.rows(workshop.read(batch))
    assert len(set(ids(output))) == 20
    assert workshop.lines.ran.total() == 20


async def test_a_worker_whose_database_comes_and_goes_goes_on(workshop: Workshop) -> None:
    chance = random.Random(5)  # not every fifth call: a run of more calls than four would never get to its end

    class Moody:
        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any, **named: Any) -> Any:
                if chance.random() < 0.15:
                    raise StoreUnavailable
                return getattr(store, name)(*arguments, **named)

            return call

    store = workshop.store
    batch = await workshop.submit(6)
    workshop.store = Moody()  # type: ignore[assignment]
    clock = asyncio.create_task(_ticking(workshop))
    async with working(workshop):
        await eventually(lambda: store.get("ward", batch.id).status == "completed", seconds=20)  # type: ignore[union-attr]
    clock.cancel()
    workshop.store = store
    output, _ = await workshop.rows(workshop.read(batch))
    assert len(output) == 6


async def test_when_the_database_was_away_for_long_a_worker_goes_on_with_what_it_had(workshop: Workshop) -> None:
    class Away:
        gone = False

        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any, **named: Any) -> Any:
                if self.gone:
                    raise StoreUnavailable
                return getattr(store, name)(*arguments, **named)

            return call

    store, away = workshop.store, Away()
    workshop.store = away  # type: ignore[assignment]
    workshop.lines.gate = asyncio.Event()
    batch = await workshop.submit(4)
    async with working(workshop):
        await eventually(lambda: workshop.lines.ran.total() == 4)
        away.gone = True
        workshop.pass_time()
        workshop.lines.gate.set()
        await asyncio.sleep(0.1)
        away.gone = False
        await eventually(lambda: workshop.read(batch).status == "completed")
    assert workshop.lines.ran.total() == 4


async def _ticking(workshop: Workshop) -> None:
    while True:
        await asyncio.sleep(0.05)
        workshop.pass_time(0.05)


async def test_what_goes_wrong_is_logged_without_what_it_was_about(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(body: Any, attempt: int) -> Any:
        raise ValueError("Quackenbush")

    workshop.lines.reply = breaks
    with caplog.at_level(logging.DEBUG):
        async with working(workshop):
            await workshop.submit(2)
            await eventually(lambda: "ValueError" in caplog.text)
    assert "Quackenbush" not in caplog.text


async def test_files_whose_time_is_over_are_deleted_but_not_under_a_running_batch(workshop: Workshop) -> None:
    batch = await workshop.submit(1)
    old = await workshop.keep("file-old", b"x", expires_at=workshop.now)
    await workshop.keep(batch.input_file_id, b"x", expires_at=workshop.now)
    assert await workshop.files.sweep() == 1
    assert workshop.file_store.get("ward", "file-old") is None
    with pytest.raises(FileNotFoundError):
        await anext(workshop.contents.read(old.kept.name))
    assert workshop.file_store.get("ward", batch.input_file_id)
