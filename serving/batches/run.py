"""One batch, from where it stands to its end. A worker that stops or dies leaves it as the database knows it; whoever
takes it next goes on from there: finished lines are not run again, and the rest is.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from serving.batches import lines
from serving.batches.batch import Batch, BatchStore, Claim, ClaimLost, Problem, Result
from serving.batches.checkpoint import Checkpoints
from serving.batches.contents import Chunks, Contents
from serving.batches.files import Files
from serving.batches.lines import Answer, BadLine, Inspection, Line, Lines
from serving.sealing import Sealing
from serving.tenants.stores import StoreUnavailable

_INSPECTED_TOGETHER = 500
_LONGEST_WAIT = 60.0
_LONGEST_WAIT_TOLD = 300.0
_AGAIN = frozenset({408, 500, 502, 504})
"""Something broke: repeated a few times."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every run works with. slots: lines at a time, over all batches of this process. window: lines of one batch
    that are in memory. hold: seconds for which a claim is taken; it is renewed in a third of them.
    """

    store: BatchStore
    files: Files
    contents: Contents
    lines: Lines
    sealing: Sealing
    deployments: Collection[str]
    slots: asyncio.Semaphore
    now: Callable[[], datetime]
    window: int = 32
    most_lines: int = 100_000
    longest_line: int = 4 * 2**20
    tries: int = 5
    hold: float = 15.0
    on_line: Callable[[str], None] = lambda outcome: None


class BatchRun:
    def __init__(self, bench: Bench, batch: Batch, claim: Claim) -> None:
        self._bench = bench
        self._batch = batch
        self._claim = claim
        self._cancelling = asyncio.Event()

    async def run(self) -> None:
        """Raises ClaimLost, and whatever makes going on impossible now."""
        work, hold = asyncio.create_task(self._work()), asyncio.create_task(self._hold())
        try:
            await asyncio.wait({work, hold}, return_when=asyncio.FIRST_COMPLETED)
            (work if work.done() else hold).result()
        finally:
            work.cancel()
            hold.cancel()
            await asyncio.wait({work, hold})

    async def _hold(self) -> None:
        """Keep the claim, and hear of a cancellation by another process."""
        bench, held_until = self._bench, self._bench.now() + timedelta(seconds=self._bench.hold)
        while True:
            await asyncio.sleep(min(bench.hold / 3, 2.0))
            until = bench.now() + timedelta(seconds=bench.hold)
            try:
                batch = await asyncio.to_thread(bench.store.renew, self._claim, until)
                held_until = until
            except StoreUnavailable:
                if bench.now() > held_until:
                    raise ClaimLost from None
                continue
            if batch.status == "cancelling":
                self._cancelling.set()

    async def _work(self) -> None:
        if self._batch.status == "validating":
            await self._validate()
        if self._batch.status == "in_progress":
            await self._run_lines()
            await self._move("in_progress", status="finalizing", finalizing_at=self._bench.now())
        if self._batch.status in ("finalizing", "cancelling"):
            await self._finish()

    async def _move(self, *before: Any, **values: Any) -> None:
        self._batch = await asyncio.to_thread(self._bench.store.move, self._claim, *before, **values)

    # Validating

    async def _validate(self) -> None:
        bench, batch = self._bench, self._batch
        inspection = Inspection(batch.endpoint, batch.owner, bench.deployments, most=bench.most_lines)
        try:
            await self._inspect(inspection)
        except BadLine as bad:
            inspection.found(bad.problem)
        except FileNotFoundError:
            inspection.found(Problem("invalid_request", "The input file is gone."))
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
        async with contextlib.aclosing(self._input()) as texts:
            async for one in texts:
                piece.append(one)
                if len(piece) == _INSPECTED_TOGETHER:
                    await asyncio.to_thread(look, piece)
                    piece = []
                if inspection.done:
                    return
        await asyncio.to_thread(look, piece)

    async def _input(self) -> AsyncGenerator[tuple[int, bytes], None]:
        bench = self._bench
        async with (
            contextlib.aclosing(bench.contents.read(self._batch.input_file_id)) as chunks,
            contextlib.aclosing(lines.split(chunks, longest=bench.longest_line)) as texts,
        ):
            async for one in texts:
                yield one

    # In progress

    async def _run_lines(self) -> None:
        """Until all are done, or the batch is cancelled, or its time is over."""
        running = asyncio.create_task(self._run_all())
        cancelling = asyncio.create_task(self._cancelling.wait())
        left = (self._batch.expires_at - self._bench.now()).total_seconds()
        try:
            await asyncio.wait({running, cancelling}, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
        finally:
            running.cancel()
            cancelling.cancel()
            await asyncio.wait({running, cancelling})
        if not running.cancelled():
            try:
                running.result()
            except BaseExceptionGroup as group:
                if group.subgroup(ClaimLost):
                    raise ClaimLost from None
                raise

    async def _run_all(self) -> None:
        bench, store = self._bench, self._bench.store
        done = await asyncio.to_thread(store.finished_lines, self._batch.id)
        checkpoints = Checkpoints(lambda results: store.add_results(self._claim, results))
        window = asyncio.Semaphore(bench.window)

        async def one(line: Line) -> None:
            try:
                await checkpoints.keep(await self._run_line(line))
            finally:
                window.release()

        async with contextlib.aclosing(self._input()) as texts, asyncio.TaskGroup() as group:
            async for number, text in texts:
                if number not in done:
                    await window.acquire()
                    group.create_task(one(lines.read(number, text)))

    async def _run_line(self, line: Line) -> Result:
        bench, batch = self._bench, self._batch
        body, attempt = lines.body_of(line), 0
        while True:
            async with bench.slots:
                answer = await bench.lines.run(batch.owner, lines.plain(batch.endpoint), body)
            attempt += 1
            wait = _wait_before_another(answer, attempt, bench.tries)
            if wait is None:
                break
            await asyncio.sleep(wait)  # without a slot: others go on
        failed = answer.status >= 400
        bench.on_line("failed" if failed else "completed")
        text = lines.answered(batch.id, line, answer)
        prompt, cached, completion = lines.usage_in(answer)
        sealed = bench.sealing.seal(text, tenant=batch.owner.tenant, place=f"{batch.id}/{line.number}")
        return Result(line.number, failed, sealed, prompt, cached, completion)

    # Finalizing

    async def _finish(self) -> None:
        """Write the files, then say so, then forget the results. Any of it may happen twice, with the same outcome."""
        bench, batch = self._bench, self._batch
        done = await asyncio.to_thread(bench.store.finished_lines, batch.id)
        ended = "cancelled" if batch.status == "cancelling" else "expired" if len(done) < batch.total else "completed"
        output = errors = None
        if batch.completed:
            output = await bench.files.add_output(
                batch.id, batch.owner, "output", self._results(failed=False), batch.output_keep
            )
        if batch.total > batch.completed:
            errors = await bench.files.add_output(
                batch.id, batch.owner, "errors", self._errors(done, ended), batch.output_keep
            )
        await self._move(
            "finalizing",
            "cancelling",
            status=ended,
            output_file_id=output and output.id,
            error_file_id=errors and errors.id,
            **{f"{ended}_at": bench.now()},
        )
        await asyncio.to_thread(bench.store.drop_results, batch.id)

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
            with contextlib.suppress(FileNotFoundError):
                async with contextlib.aclosing(self._input()) as inputs:
                    async for number, text in inputs:
                        if number not in done:
                            yield lines.not_answered(self._batch.id, lines.read(number, text), f"batch_{ended}", why)


def _wait_before_another(answer: Answer, attempt: int, tries: int) -> float | None:
    """Seconds until the line is tried again; None: this answer is its result.

    A 429 without a Retry-After is for good: the line alone is above a limit (tenants/quotas.py, RequestTooLarge).
    """
    later = answer.status == 503 or (answer.status == 429 and answer.retry_after is not None)
    if not later and (answer.status not in _AGAIN or attempt >= tries):
        return None
    spread = random.uniform(0.5, 1.0)  # noqa: S311  # so that not all come at the same time
    own: float = min(_LONGEST_WAIT, 0.25 * 2 ** min(attempt, 10)) * spread
    return max(own, min(_LONGEST_WAIT_TOLD, answer.retry_after or 0.0))
