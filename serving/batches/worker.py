"""The batch worker: takes batches that nobody works on. One in each gateway process; the database says who has what."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta

from serving.batches.batch import ClaimLost
from serving.batches.run import BatchRun, Bench
from serving.errors import ServingError

_SWEEP_SECONDS = 60.0
_ORPHANS_SECONDS = 3600.0
_CLOSE_SECONDS = 5.0
_log = logging.getLogger(__name__)


class BatchWorker:
    """woken: set when there is work. most: batches at a time. poll: seconds between looks for work of others."""

    def __init__(self, bench: Bench, woken: asyncio.Event, *, most: int = 16, poll: float = 2.0) -> None:
        self._bench = bench
        self._woken = woken
        self._most = most
        self._poll = poll
        self._runs: dict[asyncio.Task[None], BatchRun] = {}
        self._task: asyncio.Task[None] | None = None
        self._cleaning: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._watch())
        self._cleaning = asyncio.create_task(self._clean())

    async def close(self) -> None:
        """Let lines under way end, within seconds; what is left is run again by whoever takes its batch next. That is
        at once, if the database can be told; else when the claim ends.
        """
        if self._task is None or self._cleaning is None:
            return
        self._task.cancel()
        self._cleaning.cancel()
        await asyncio.wait({self._task, self._cleaning})
        runs = dict(self._runs)
        for run in runs.values():
            run.stop()
        if runs:
            _, late = await asyncio.wait(runs, timeout=_CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for run in runs.values():
            try:
                await asyncio.wait_for(asyncio.to_thread(self._bench.store.release, run.claim), _CLOSE_SECONDS)
            except (ServingError, TimeoutError):
                return

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        swept = loop.time()
        while True:
            self._woken.clear()
            try:
                while len(self._runs) < self._most and await self._take():
                    pass
                if loop.time() - swept > _SWEEP_SECONDS:
                    swept = loop.time()
                    await self._bench.files.sweep()
            except ServingError:
                pass  # the database or the disk is away: look again
            except Exception as error:
                _log.error("batch worker: %s", type(error).__name__)  # its text may hold content
            # Not wait_for: on 3.11 it swallows a cancellation that comes with the event, and this would never end.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll):
                    await self._woken.wait()

    async def _clean(self) -> None:
        """At start, which may be after a crash, and hourly."""
        while True:
            try:
                await self._bench.orphans.sweep(self._bench.now())
            except ServingError:
                pass  # the database or the disk is away: in an hour
            except Exception as error:
                _log.error("batch worker: %s", type(error).__name__)
            await asyncio.sleep(_ORPHANS_SECONDS)

    async def _take(self) -> bool:
        bench = self._bench
        now = bench.now()
        # Not what runs here: after the database was away, a run's claim may be over until it is renewed in a moment.
        mine = [run.claim.batch_id for run in self._runs.values()]
        taken = await asyncio.to_thread(bench.store.claim, now, now + timedelta(seconds=bench.hold), but=mine)
        if taken is None:
            return False
        batch, claim = taken
        run = BatchRun(bench, batch, claim)
        task = asyncio.create_task(run.run())
        self._runs[task] = run
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A run that failed keeps its claim until that ends, which is the pause before it is tried again."""
        self._runs.pop(task, None)
        self._woken.set()
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, ClaimLost | ServingError):
            _log.error("a batch cannot go on: %s", type(error).__name__)
