"""Responses that nobody waits for: tasks of this process, whose outcome is kept."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from serving.errors import ServingError, TooManyRequests
from serving.protocol.responses.answer import Status
from serving.responses.response import ResponseStore
from serving.responses.responses import Responses
from serving.tenants.stores import StoreUnavailable

Outcome = tuple[Status, bytes]
"""How a response ended, and its sealed content."""
_HOLD_SECONDS = 15.0
_WRITE_TRIES = 10
_CLOSE_SECONDS = 5.0
_log = logging.getLogger(__name__)


class Background:
    """most: at a time. every: seconds until a cancellation acts. sweep: seconds between looks for what is over."""

    def __init__(
        self,
        store: ResponseStore,
        responses: Responses,
        *,
        most: int,
        now: Callable[[], datetime],
        every: float = 1.0,
        sweep: float = 60.0,
    ) -> None:
        self._store = store
        self._responses = responses
        self._most = most
        self._now = now
        self._every = every
        self._sweep = sweep
        self._entering = 0
        self._running: dict[asyncio.Task[None], str] = {}
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._sweeping = asyncio.create_task(self._sweep_always())

    async def close(self) -> None:
        """Stop them; each is `failed`, at once if the database can be told, else when its time is over."""
        running = dict(self._running)
        tasks = [*running, *([self._sweeping] if self._sweeping else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
        for id in running.values():
            try:
                await asyncio.wait_for(asyncio.to_thread(self._store.end, id, "failed"), _CLOSE_SECONDS)
            except (ServingError, TimeoutError):
                return

    @contextmanager
    def entering(self) -> Iterator[None]:
        """Around keeping a new response and its `begin`. Raises TooManyRequests."""
        if len(self._running) + self._entering >= self._most:
            raise TooManyRequests("Too many background responses run here. Please retry shortly.", retry_after=5.0)
        self._entering += 1
        try:
            yield
        finally:
            self._entering -= 1

    def held_until(self) -> datetime:
        """Until when a response is believed to be worked on, counted from now."""
        return self._now() + timedelta(seconds=_HOLD_SECONDS)

    def begin(self, id: str, work: Callable[[], Awaitable[Outcome]]) -> None:
        """Work on a response that is kept as `queued`."""
        task = asyncio.create_task(self._run(id, work))
        self._running[task] = id
        task.add_done_callback(self._ended)

    async def _run(self, id: str, work: Callable[[], Awaitable[Outcome]]) -> None:
        working, holding = asyncio.ensure_future(work()), asyncio.create_task(self._hold(id))
        try:
            await asyncio.wait({working, holding}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await self._end(id, working)
        finally:
            working.cancel()
            holding.cancel()
            await asyncio.wait({working, holding})

    async def _hold(self, id: str) -> None:
        """Until it is cancelled, deleted or taken for lost."""
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            try:
                if clock() < due:
                    goes_on = await asyncio.to_thread(self._store.is_open, id)
                else:
                    goes_on = await asyncio.to_thread(self._store.hold, id, self.held_until())
                    due = clock() + _HOLD_SECONDS / 3
                if not goes_on:
                    return
            except StoreUnavailable:
                pass  # if that lasts, the response is taken for lost, and this will hear of it
            await asyncio.sleep(self._every)

    async def _end(self, id: str, working: asyncio.Future[Outcome]) -> None:
        status, content = working.result()
        for _ in range(_WRITE_TRIES):
            try:
                await asyncio.to_thread(self._store.end, id, status, content)
                return
            except StoreUnavailable:
                await asyncio.sleep(self._every)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """One that failed here is `failed` to all when its time is over."""
        self._running.pop(task, None)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, ServingError):
            _log.error("a background response broke: %s", type(error).__name__)  # its text may hold content

    async def _sweep_always(self) -> None:
        while True:
            try:
                await self._responses.sweep()
            except ServingError:
                pass  # the database is away: look again
            except Exception as error:
                _log.error("responses cannot be swept: %s", type(error).__name__)
            await asyncio.sleep(self._sweep)
