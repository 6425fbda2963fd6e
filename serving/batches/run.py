"""One batch, from where it stands to its end. A worker that stops or dies leaves it as the database knows it; whoever
takes it next goes on from there: finished lines are not run again, and the rest is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from serving.batches import lines
from serving.batches.batch import Batch, BatchStore, Claim, Problem, Result
from serving.batches.checkpoint import Checkpoints
from serving.batches.contents import Chunks, NoRoom
from serving.batches.files import Files
from serving.batches.lines import Answer, BadLine, Inspection, Line, Lines
from serving.batches.memory import ByteBudget
from serving.batches.orphans import Orphans
from serving.batches.retries import wait_before_another
from serving.batches.sealed import ContentsDamaged
from serving.sealing import Sealing, Unsealable
from serving.tenants.stores import StoreUnavailable

_INSPECTED_TOGETHER = 500
_INSPECTED_BYTES = 2**20
_LARGE = 64 * 2**10
"""Bytes of a line from which on it is read beside the event loop, one at a time."""
_MEMORY = 64 * 2**20
_LOOK = 2.0
"""Seconds between two looks at whether the batch is cancelled."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every run works with. slots: by deployment, lines at a time over all batches of this process, so that one
    that is busy does not keep the lines of others waiting. window: lines of one batch that are in memory. memory: what
    lines of all batches may be together. reading: held by who takes large ones apart. hold: seconds for which a claim
    is taken; it is renewed in a third of them.
    """

    store: BatchStore
    files: Files
    orphans: Orphans
    lines: Lines
    sealing: Sealing
    slots: Mapping[str, asyncio.Semaphore]
    now: Callable[[], datetime]
    window: int = 32
    most_lines: int = 100_000
    longest_line: int = 4 * 2**20
    tries: int = 5
    hold: float = 15.0
    memory: ByteBudget = field(default_factory=lambda: ByteBudget(_MEMORY))
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    on_line: Callable[[str], None] = lambda outcome: None
    check_room: Callable[[], None] = lambda: None
    """Raises NoRoom while no line may be begun."""


class BatchRun:
    def __init__(self, bench: Bench, batch: Batch, claim: Claim) -> None:
        self.claim = claim
        self._bench = bench
        self._batch = batch
        self._cancelling = asyncio.Event()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Begin no more lines; `run` returns when those under way have ended."""
        self._stopping.set()

    async def run(self) -> None:
        """Raises ClaimLost, and whatever makes going on impossible now."""
        work, hold = asyncio.create_task(self._work()), asyncio.create_task(self._hold())
        try:
            await asyncio.wait({work, hold}, return_when=asyncio.FIRST_COMPLETED)
            (work if work.done() else hold).result()
        finally:
            work.cancel()
            hold.cancel()
            await asyncio.gather(work, hold, return_exceptions=True)

    async def _hold(self) -> None:
        """Keep the claim, and hear of a cancellation by another process.

        While the database is away nobody else can take the batch from there either, and if somebody did from elsewhere,
        the claim's fence says so: lines that have ended wait to be written, and no more begin than the window holds.
        """
        bench = self._bench
        while True:
            await asyncio.sleep(min(bench.hold / 3, _LOOK))
            until = bench.now() + timedelta(seconds=bench.hold)
            with contextlib.suppress(StoreUnavailable):
                batch = await asyncio.to_thread(bench.store.renew, self.claim, until)
                if batch.status == "cancelling":
                    self._cancelling.set()

    async def _work(self) -> None:
        try:
            if self._batch.status == "validating":
                await self._validate()
            if self._batch.status == "in_progress":
                await self._run_lines()
                if self._stopping.is_set():
                    return
                await self._move("in_progress", status="finalizing", finalizing_at=self._bench.now())
            if self._batch.status in ("finalizing", "cancelling"):
                await self._finish()
        except FileNotFoundError:
            await self._move("in_progress", status="in_progress")  # for the counts as they are now
            await self._finish(Problem("invalid_request", "The input file is gone: its other lines were not run."))
        except ContentsDamaged:
            await self._move("in_progress", status="in_progress")
            await self._finish(Problem("server_error", "The input file is damaged: its other lines were not run."))
        except Unsealable:
            problem = Problem("server_error", "Results were sealed with another secret than the server has now.")
            await self._end(status="failed", failed_at=self._bench.now(), errors=[problem])

    async def _move(self, *before: Any, **values: Any) -> None:
        self._batch = await asyncio.to_thread(self._bench.store.move, self.claim, *before, **values)

    async def _end(self, **values: Any) -> None:
        self._batch = await asyncio.to_thread(self._bench.store.end, self.claim, **values)

    # Validating

    async def _validate(self) -> None:
        bench, batch = self._bench, self._batch
        inspection = Inspection(batch.endpoint, batch.owner, bench.slots, most=bench.most_lines)
        try:
            await self._inspect(inspection)
        except BadLine as bad:
            inspection.found(bad.problem)
        except FileNotFoundError:
            inspection.found(Problem("invalid_request", "The input file is gone."))
        except ContentsDamaged:
            inspection.found(Problem("server_error", "The input file was damaged where it is kept. Upload it again."))
        inspection.finish()
        if inspection.problems:
            await self._move(
                "validating", status="failed", failed_at=bench.now(), errors=inspection.problems, model=inspection.model
            )
        else:
            await self._move(
                "validating",
                status="in_progress",
                in_progress_at=bench.now(),
                total=inspection.total,
                model=inspection.model,
            )

    async def _inspect(self, inspection: Inspection) -> None:
        def look(piece: list[tuple[int, bytes]]) -> None:
            for number, text in piece:
                if not inspection.done:
                    inspection.look(number, text)

        piece: list[tuple[int, bytes]] = []
        size = 0
        async with contextlib.aclosing(self._input()) as texts:
            async for one in texts:
                piece.append(one)
                size += len(one[1])
                if len(piece) == _INSPECTED_TOGETHER or size > _INSPECTED_BYTES:
                    async with self._bench.reading:
                        await asyncio.to_thread(look, piece)
                    piece, size = [], 0
                if inspection.done:
                    return
        await asyncio.to_thread(look, piece)

    async def _input(self) -> AsyncGenerator[tuple[int, bytes], None]:
        bench = self._bench
        async with (
            contextlib.aclosing(bench.files.read(self._batch.owner.tenant, self._batch.input_file_id)) as chunks,
            contextlib.aclosing(lines.split(chunks, longest=bench.longest_line)) as texts,
        ):
            async for one in texts:
                yield one

    # In progress

    async def _run_lines(self) -> None:
        """Until all are done, or the batch is cancelled, or its time is over, or no more are to begin."""
        running = asyncio.create_task(self._run_all())
        cancelling = asyncio.create_task(self._cancelling.wait())
        left = (self._batch.expires_at - self._bench.now()).total_seconds()
        try:
            await asyncio.wait({running, cancelling}, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
        finally:
            running.cancel()
            cancelling.cancel()
            await asyncio.gather(running, cancelling, return_exceptions=True)
        if not running.cancelled():
            try:
                running.result()
            except BaseExceptionGroup as group:
                raise _first_of(group) from None

    async def _run_all(self) -> None:
        bench, store = self._bench, self._bench.store
        done = await asyncio.to_thread(store.finished_lines, self._batch.id)
        checkpoints = Checkpoints(lambda results: store.add_results(self.claim, results))
        window = asyncio.Semaphore(bench.window)

        async def one(number: int, text: bytes) -> None:
            try:
                line, body = await self._request_of(number, text)
                answer = await self._answer_to(body)
                if answer is not None:
                    await checkpoints.keep(self._result_of(line, answer))
            finally:
                window.release()

        async with contextlib.aclosing(self._input()) as texts, asyncio.TaskGroup() as group:
            async for number, text in texts:
                if number not in done:
                    await window.acquire()
                    await self._wait_for_room()
                    await bench.memory.take(len(text))
                    if self._stopping.is_set():
                        bench.memory.give_back(len(text))
                        break
                    size, task = len(text), group.create_task(one(number, text))
                    # Not in `one`: of a task that is cancelled before it begins nothing runs.
                    task.add_done_callback(lambda _, size=size: bench.memory.give_back(size))  # type: ignore[misc]

    async def _wait_for_room(self) -> None:
        """Results are in the database until the batch ends: while its disk has none to spare, no line is begun."""
        while not self._stopping.is_set():
            try:
                return self._bench.check_room()
            except NoRoom:
                await asyncio.sleep(_LOOK)

    async def _request_of(self, number: int, text: bytes) -> tuple[Line, bytes]:
        """The line without its body, and that as it is sent: bytes take a tenth of what is made of them."""

        def read() -> tuple[Line, bytes]:
            line = lines.read(number, text)
            return replace(line, body={}), lines.body_of(line)

        if len(text) < _LARGE:
            return read()
        async with self._bench.reading:
            return await asyncio.to_thread(read)

    async def _answer_to(self, body: bytes) -> Answer | None:
        """None: it was not run, because no more lines are to begin."""
        bench, batch = self._bench, self._batch
        # A deployment that is not configured any more has none: each of its lines is told so.
        slots = bench.slots.get((batch.model or "").partition(":")[0]) or contextlib.nullcontext()
        attempt = 0
        while True:
            async with slots:
                if self._stopping.is_set():
                    return None
                answer = await bench.lines.run(batch.owner, lines.plain(batch.endpoint), body)
            attempt += 1
            wait = wait_before_another(answer, attempt, tries=bench.tries)
            if wait is None:
                return answer
            with contextlib.suppress(TimeoutError):  # without a slot: others go on
                async with asyncio.timeout(wait):
                    await self._stopping.wait()

    def _result_of(self, line: Line, answer: Answer) -> Result:
        bench, batch = self._bench, self._batch
        failed = answer.status >= 400
        bench.on_line("failed" if failed else "completed")
        text = lines.answered(batch.id, line, answer)
        prompt, cached, completion = lines.usage_in(answer)
        sealed = bench.sealing.seal(text, tenant=batch.owner.tenant, place=f"{batch.id}/{line.number}")
        return Result(line.number, failed, sealed, prompt, cached, completion)

    # Finalizing

    async def _finish(self, problem: Problem | None = None) -> None:
        """Write the files, then say so and forget the results. Writing may happen twice, with the same outcome."""
        bench, batch = self._bench, self._batch
        done = await asyncio.to_thread(bench.store.finished_lines, batch.id)
        ended = "expired" if len(done) < batch.total else "completed"
        if problem:
            ended = "failed"
        elif batch.status == "cancelling":
            ended = "cancelled"
        output = errors = None
        if batch.completed:
            output = await bench.files.add_output(
                batch.id, batch.owner, "output", self._results(failed=False), batch.output_keep
            )
        if batch.total > batch.completed:
            errors = await bench.files.add_output(
                batch.id, batch.owner, "errors", self._errors(done, ended), batch.output_keep
            )
        await self._end(
            status=ended,
            errors=[problem] if problem else [],
            output_file_id=output and output.id,
            error_file_id=errors and errors.id,
            **{f"{ended}_at": bench.now()},
        )

    async def _results(self, *, failed: bool) -> Chunks:
        bench, batch = self._bench, self._batch
        found = bench.store.results(batch.id, failed=failed)
        while (result := await asyncio.to_thread(next, found, None)) is not None:
            yield bench.sealing.open(result.text, tenant=batch.owner.tenant, place=f"{batch.id}/{result.line}")

    async def _errors(self, done: set[int], ended: str) -> Chunks:
        """Lines that failed, then those that were not run."""
        async with contextlib.aclosing(self._results(failed=True)) as texts:
            async for text in texts:
                yield text
        why = "The batch was cancelled before this line was run."
        if ended == "expired":
            why = "This line was not run before the batch expired."
        if len(done) < self._batch.total:
            with contextlib.suppress(FileNotFoundError, ContentsDamaged):
                async with contextlib.aclosing(self._input()) as inputs:
                    async for number, text in inputs:
                        if number not in done:
                            yield lines.not_answered(self._batch.id, lines.read(number, text), f"batch_{ended}", why)


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The reason: the other tasks of a group are cancelled when one fails."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
