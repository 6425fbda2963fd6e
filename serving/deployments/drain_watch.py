"""Ends what still runs in a gateway replica that is to stop, early enough for an error event and for the books."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from serving.gateway.beside import Beside


class DrainWatch(Beside):
    """Runs beside the requests. stopping: whether this replica is to stop; looked at so `often`, in seconds. seconds:
    that its answers then have. cut: ends them.
    """

    def __init__(
        self, stopping: Callable[[], bool], *, seconds: float, cut: Callable[[], None], often: float = 0.5
    ) -> None:
        self._stopping = stopping
        self._seconds = seconds
        self._cut = cut
        self._often = often

    async def _run(self) -> None:
        while not self._stopping():  # noqa: ASYNC110  # Serve has no event for it
            await asyncio.sleep(self._often)
        await asyncio.sleep(self._seconds)
        self._cut()


def is_stopping() -> bool:
    """Whether Serve has told the replica in this process to stop. Serve does not tell what runs in it, waits for its
    requests, and kills it when its time is up. No public API: used here only, and a test on real Serve covers it.
    """
    from ray._private.worker import global_worker

    return any(replica._replica_impl._shutting_down for replica in global_worker.actors.values())
