"""One batch, from validating to its end: every line exactly once, whatever happens on the way."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from datetime import timedelta
from typing import Any

import pytest

from serving.batches.batch import Batch, ClaimLost, Result
from serving.batches.contents import ContentsUnavailable
from serving.batches.run import BatchRun
from serving.tenants.stores import StoreUnavailable
from tests.batches.workshop import Workshop, answer, ids, line
from tests.local import eventually

ALL = [f"t-{number}" for number in range(1, 7)]


async def test_a_batch_runs_to_its_end_with_counts_tokens_and_times(workshop: Workshop) -> None:
    batch = await workshop.submit(6)
    batch = await workshop.work()
    assert (batch.status, batch.model, batch.total, batch.completed, batch.failed) == ("completed", "m", 6, 6, 0)
    assert (batch.prompt_tokens, batch.cached_tokens, batch.completion_tokens) == (18, 6, 12)
    assert batch.in_progress_at and batch.finalizing_at and batch.completed_at and batch.failed_at is None
    output, errors = await workshop.rows(batch)
    assert (ids(output), errors) == (ALL, [])
    assert output[3]["response"]["body"]["said"] == "text 4"
    assert workshop.lines.ran == {f"text {number}": 1 for number in range(1, 7)}
    assert workshop.store.claim(workshop.now, workshop.now) is None
    assert workshop.store.finished_lines(batch.id) == set()


async def test_failed_lines_are_in_the_error_file_and_the_others_in_the_output(workshop: Workshop) -> None:
    workshop.lines.reply = lambda body, attempt: answer(400 if body["text"] == "text 2" else 200)
    await workshop.submit(3)
    batch = await workshop.work()
    output, errors = await workshop.rows(batch)
    assert (ids(output), ids(errors), batch.status) == (["t-1", "t-3"], ["t-2"], "completed")
    assert errors[0]["response"]["status_code"] == 400 and errors[0]["error"] is None


@pytest.mark.parametrize("refusal", [answer(503, 0.01), answer(429, 0.01), answer(503), answer(500), answer(504)])
async def test_a_line_that_is_refused_for_now_is_tried_again(workshop: Workshop, refusal: Any) -> None:
    workshop.lines.reply = lambda body, attempt: answer() if attempt == 2 else refusal
    await workshop.submit(2)
    batch = await workshop.work()
    assert (batch.status, batch.completed, batch.failed) == ("completed", 2, 0)
    assert set(workshop.lines.ran.values()) == {2}


async def test_one_that_breaks_again_and_again_fails_with_its_last_answer(workshop: Workshop) -> None:
    workshop.lines.reply = lambda body, attempt: answer(502, said=attempt)
    await workshop.submit(1)
    batch = await workshop.work(tries=2)
    _, (error,) = await workshop.rows(batch)
    assert (batch.failed, error["response"]["status_code"], error["response"]["body"]["said"]) == (1, 502, 2)


async def test_one_that_is_above_a_limit_by_itself_fails_at_once(workshop: Workshop) -> None:
    workshop.lines.reply = lambda body, attempt: answer(429)
    await workshop.submit(1)
    assert (await workshop.work()).failed == 1
    assert workshop.lines.ran["text 1"] == 1


async def test_a_line_that_waits_for_another_try_holds_no_slot(workshop: Workshop) -> None:
    workshop.lines.reply = lambda body, attempt: (
        answer(503, 0.2) if body["text"] == "text 1" and attempt == 1 else answer()
    )
    await workshop.submit(20)
    batch = await workshop.work(slots={"m": asyncio.Semaphore(1)})
    assert batch.completed == 20


async def test_a_cancelled_batch_keeps_what_it_has(workshop: Workshop) -> None:
    workshop.lines.gate = asyncio.Event()
    batch = await workshop.submit(6)
    running = asyncio.create_task(workshop.work(slots={"m": asyncio.Semaphore(1)}))
    await eventually(lambda: workshop.lines.ran.total() == 1)
    workshop.lines.gate.set()
    workshop.lines.gate = asyncio.Event()
    await eventually(lambda: workshop.read(batch).completed == 1)
    workshop.store.cancel("ward", batch.id, workshop.now)
    batch = await running
    output, errors = await workshop.rows(batch)
    assert (batch.status, ids(output), sorted(ids(errors))) == ("cancelled", ["t-1"], ALL[1:])
    assert {error["error"]["code"] for error in errors} == {"batch_cancelled"}


async def test_one_that_is_cancelled_before_it_began_has_no_files(workshop: Workshop) -> None:
    batch = await workshop.submit(3)
    workshop.store.cancel("ward", batch.id, workshop.now)
    batch = await workshop.work()
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("cancelled", None, None)
    assert workshop.lines.ran.total() == 0


async def test_what_is_not_run_in_time_is_in_the_error_file(workshop: Workshop) -> None:
    workshop.lines.reply = lambda body, attempt: answer() if body["text"] == "text 1" else answer(503, 300)
    batch = await workshop.submit(3, expires_at=workshop.now + timedelta(seconds=0.5))
    batch = await workshop.work()
    output, errors = await workshop.rows(batch)
    assert (batch.status, ids(output), ids(errors)) == ("expired", ["t-1"], ["t-2", "t-3"])
    assert {error["error"]["code"] for error in errors} == {"batch_expired"}


async def test_one_that_nobody_took_in_time_expires_whole(workshop: Workshop) -> None:
    await workshop.submit(2)
    workshop.pass_time(25 * 3600)
    batch = await workshop.work()
    assert (batch.status, len((await workshop.rows(batch))[1]), workshop.lines.ran.total()) == ("expired", 2, 0)


async def test_the_results_of_unfinished_batches_are_sealed(workshop: Workshop) -> None:
    workshop.lines.reply = lambda body, attempt: answer() if body["text"] == "text 1" else answer(503, 300)
    batch = await workshop.submit(2)
    running = asyncio.create_task(workshop.work())
    await eventually(lambda: workshop.read(batch).completed == 1)
    (kept,) = workshop.store.results(batch.id, failed=False)
    assert b"req_1" not in kept.text and b"t-1" not in kept.text
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_results_sealed_with_another_secret_fail_the_batch_and_are_not_tried_for_ever(workshop: Workshop) -> None:
    batch = await workshop.submit(2)
    await _run_until_finalizing(workshop, batch)
    workshop.secret = b"t" * 32
    workshop.pass_time()
    batch = await workshop.work()
    assert (batch.status, batch.errors[0].code) == ("failed", "server_error")


async def test_a_batch_whose_input_is_gone_keeps_what_it_has_and_fails(workshop: Workshop) -> None:
    workshop.lines.reply = lambda body, attempt: answer() if body["text"] == "text 1" else answer(503, 300)
    batch = await workshop.submit(3)
    running = asyncio.create_task(workshop.work())
    await eventually(lambda: workshop.read(batch).completed == 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    file = workshop.file_store.get("ward", batch.input_file_id)
    assert file is not None
    await workshop.sealed.delete(file.kept)
    workshop.pass_time()
    batch = await workshop.work()
    output, _ = await workshop.rows(batch)
    assert (batch.status, ids(output)) == ("failed", ["t-1"])
    assert "input file is gone" in batch.errors[0].message


async def test_a_worker_that_stops_lets_lines_under_way_end_and_begins_no_more(workshop: Workshop) -> None:
    workshop.lines.gate = asyncio.Event()
    batch = await workshop.submit(6)
    taken = workshop.store.claim(workshop.now, workshop.now + timedelta(seconds=1))
    assert taken
    run = BatchRun(workshop.bench(slots={"m": asyncio.Semaphore(2)}), *taken)
    running = asyncio.create_task(run.run())
    await eventually(lambda: workshop.lines.ran.total() == 2)
    run.stop()
    workshop.lines.gate.set()
    await running
    assert (workshop.read(batch).status, workshop.read(batch).completed) == ("in_progress", 2)
    workshop.pass_time()
    assert (await workshop.work()).completed == 6
    assert set(workshop.lines.ran.values()) == {1}


async def test_one_that_has_lost_its_claim_writes_nothing_more(workshop: Workshop) -> None:
    workshop.lines.gate = asyncio.Event()
    batch = await workshop.submit(2)
    slow = asyncio.create_task(workshop.work(hold=60))
    await eventually(lambda: workshop.lines.ran.total() == 2)
    workshop.pass_time()
    gate, workshop.lines.gate = workshop.lines.gate, None
    done = await workshop.work()
    gate.set()
    with pytest.raises(ClaimLost):
        await slow
    assert (workshop.read(batch), done.completed) == (done, 2)


class Away:
    """A store whose database is away while `away` is set."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.away = False

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            if self.away:
                raise StoreUnavailable
            return getattr(self._store, name)(*arguments, **named)

        return call


async def test_while_the_database_is_away_lines_wait_and_none_is_run_again_when_it_is_back(workshop: Workshop) -> None:
    store = Away(workshop.store)
    workshop.store = store  # type: ignore[assignment]

    def goes_away(body: Any, attempt: int) -> Any:
        store.away = True
        return answer()

    workshop.lines.reply = goes_away
    batch = await workshop.submit(6)
    running = asyncio.create_task(workshop.work())
    await eventually(lambda: store.away)
    await asyncio.sleep(0.7)  # longer than the claim was for
    workshop.lines.reply = lambda body, attempt: answer()
    store.away = False
    batch = await running
    assert (batch.status, batch.completed) == ("completed", 6)
    assert set(workshop.lines.ran.values()) == {1}


class Killed(Exception):
    """The process is gone: from here on nothing that it does has any effect."""


class Fate:
    """Counts what a process does outside itself, and kills it at one of these steps, before or after its effect."""

    def __init__(self, at: int, when: str) -> None:
        self.at = at
        self.when = when
        self.steps = 0
        self.dead = False
        self.kept: set[int] = set()

    def begin(self) -> int:
        self.steps += 1
        self._check(self.steps, "before")
        return self.steps

    def end(self, step: int) -> None:
        self._check(step, "after")

    def _check(self, step: int, when: str) -> None:
        if self.dead or (step == self.at and self.when == when):
            self.dead = True
            raise Killed

    def of(self, thing: Any) -> Any:
        return _Fated(thing, self)


class _Fated:
    def __init__(self, thing: Any, fate: Fate) -> None:
        self._thing = thing
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        what, fate = getattr(self._thing, name), self._fate

        async def later(*arguments: Any, **named: Any) -> Any:
            step = fate.begin()
            result = await what(*arguments, **named)
            fate.end(step)
            return result

        async def stream(*arguments: Any, **named: Any) -> Any:
            step = fate.begin()
            async with contextlib.aclosing(what(*arguments, **named)) as chunks:
                async for chunk in chunks:
                    yield chunk
            fate.end(step)

        def now(*arguments: Any, **named: Any) -> Any:
            step = fate.begin()
            result = what(*arguments, **named)
            if name == "add_results":
                fate.kept |= {one.line for one in arguments[1]}
            fate.end(step)
            return result

        if name == "read":
            return stream
        return later if asyncio.iscoroutinefunction(what) else now


@pytest.mark.parametrize("when", ["before", "after"])
async def test_killed_at_any_step_another_worker_goes_on_and_every_line_is_there_once(
    workshop: Workshop, when: str
) -> None:
    workshop.lines.reply = lambda body, attempt: answer(400 if body["text"] == "text 2" else 200, said=body["text"])
    store, file_store, contents, asked = workshop.store, workshop.file_store, workshop.contents, workshop.lines
    at = 0
    while True:
        at += 1
        batch = await workshop.submit(6)
        asked.ran.clear()
        fate = Fate(at, when)
        workshop.store, workshop.file_store, workshop.contents, workshop.lines = map(
            fate.of, (store, file_store, contents, asked)
        )
        with contextlib.suppress(Killed):
            await workshop.work(hold=60)
        workshop.store, workshop.file_store, workshop.contents, workshop.lines = store, file_store, contents, asked
        workshop.pass_time()
        if workshop.read(batch).status != "completed":
            ran = asked.ran.copy()
            await workshop.work()
            again = {f"text {line}" for line in fate.kept if asked.ran[f"text {line}"] > ran[f"text {line}"]}
            assert again == set(), f"lines that had ended were run again after step {at}"
        ended = workshop.read(batch)
        output, errors = await workshop.rows(ended)
        assert (ids(output), ids(errors)) == (["t-1", "t-3", "t-4", "t-5", "t-6"], ["t-2"]), f"step {at}"
        assert (ended.total, ended.completed, ended.failed, ended.prompt_tokens) == (6, 5, 1, 18)
        if not fate.dead:
            break
    assert at > 20


async def test_lines_for_a_deployment_that_is_gone_are_told_so(workshop: Workshop) -> None:
    workshop.lines.reply = lambda body, attempt: answer(404)
    batch = await workshop.submit(3)
    workshop.store.claim(workshop.now, workshop.now)
    workshop.pass_time()
    taken = workshop.store.claim(workshop.now, workshop.now)
    assert taken
    workshop.store.move(taken[1], "validating", status="in_progress", model="m", total=3)
    workshop.pass_time()
    batch = await workshop.work(slots={})
    assert (batch.status, batch.failed) == ("completed", 3)


async def test_contents_that_are_away_end_the_run_for_now(workshop: Workshop) -> None:
    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(contents, name)

        async def write(self, id: str, chunks: Any) -> int:
            raise ContentsUnavailable

    batch = await workshop.submit(2)
    contents = workshop.contents
    workshop.contents = Full()  # type: ignore[assignment]
    with pytest.raises(ContentsUnavailable):
        await workshop.work()
    workshop.contents = contents
    workshop.pass_time()
    batch = await workshop.work()
    assert batch.status == "completed" and set(workshop.lines.ran.values()) == {1}


async def test_a_file_with_a_bad_line_fails_before_anything_is_run(workshop: Workshop) -> None:
    await workshop.submit_text(line(1) + b"\n" + line(2, method="GET") + b"{")
    batch = await workshop.work()
    assert (batch.status, workshop.lines.ran.total(), batch.failed_at is not None) == ("failed", 0, True)
    assert [(one.line, one.code) for one in batch.errors] == [(3, "invalid_method"), (4, "invalid_json_line")]


async def test_a_line_that_is_too_long_is_named(workshop: Workshop) -> None:
    await workshop.submit_text(line(1) + line(2, custom_id="x" * 500))
    batch = await workshop.work(longest_line=300)
    assert [(one.line, one.code) for one in batch.errors] == [(2, "invalid_request")]


async def test_too_many_lines_are_refused_whole(workshop: Workshop) -> None:
    await workshop.submit(4)
    batch = await workshop.work(most_lines=3)
    assert [(one.line, one.code) for one in batch.errors] == [(4, "too_many_tasks")]


async def test_a_results_place_is_part_of_its_seal(workshop: Workshop) -> None:
    """Whoever can write to the database cannot give one line's answer to another."""
    batch = await workshop.submit(2)
    await _run_until_finalizing(workshop, batch)
    engine: Any = workshop.store._engine  # type: ignore[attr-defined]
    with sqlite3.connect(engine.url.database) as database:
        database.execute("UPDATE batch_results SET text = (SELECT text FROM batch_results WHERE line = 1)")
    workshop.pass_time()
    assert (await workshop.work()).status == "failed"


async def _run_until_finalizing(workshop: Workshop, batch: Batch) -> None:
    """All lines are done, no file is written."""
    contents = workshop.contents

    class Dies:
        def __getattr__(self, name: str) -> Any:
            return getattr(contents, name)

        async def write(self, id: str, chunks: Any) -> int:
            raise Killed

    workshop.contents = Dies()  # type: ignore[assignment]
    with pytest.raises(Killed):
        await workshop.work()
    workshop.contents = contents
    assert workshop.read(batch).status == "finalizing"


def test_a_result_has_no_repr_of_content() -> None:
    """Results hold sealed text only; were one logged, nothing could be read."""
    assert "text=b'sealed'" in repr(Result(1, False, b"sealed"))
