"""The batch worker: takes batches that nobody works on. One in each gateway process; the database says who has what."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import timedelta

from serving.batches.batch import Claim, ClaimLost
from serving.batches.run import BatchRun, Bench
from serving.errors import ServingError

_SWEEP_SECONDS = 600.0
_CLOSE_SECONDS = 5.0
_log = logging.getLogger(__name__)


class BatchWorker:
    """woken: set when there is work. most: batches at a time. poll: seconds between looks for work of others."""

    def __init__(self, bench: Bench, woken: asyncio.Event, *, most: int = 4, poll: float = 2.0) -> None:
        self._bench = bench
        self._woken = woken
        self._most = most
        self._poll = poll
        self._runs: dict[asyncio.Task[None], Claim] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop where it stands. Lines under way are run again by whoever takes their batch next: at once, if the
        database can be told; else when the claim ends.
        """
        if self._task is None:
            return
        claims = list(self._runs.values())
        tasks = [self._task, *self._runs]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
        for claim in claims:
            try:
                await asyncio.wait_for(asyncio.to_thread(self._bench.store.release, claim), _CLOSE_SECONDS)
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
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), self._poll)

    async def _take(self) -> bool:
        bench = self._bench
        now = bench.now()
        taken = await asyncio.to_thread(bench.store.claim, now, now + timedelta(seconds=bench.hold))
        if taken is None:
            return False
        batch, claim = taken
        task = asyncio.create_task(BatchRun(bench, batch, claim).run())
        self._runs[task] = claim
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A run that failed keeps its claim until that ends, which is the pause before it is tried again."""
        self._runs.pop(task, None)
        self._woken.set()
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, ClaimLost | ServingError):
            _log.error("a batch cannot go on: %s", type(error).__name__)
