"""The audit log as a stream to a SIEM: what is in the database is sent, in order, from where it had come to.

The database is the outbox: nothing waits in memory, and a receiver that was away for days gets what it missed. Sent are
the chains that have an anchor in this machine's folder, so that each machine sends its own; of several processes one
does, who holds the folder's lock. How far each chain is sent stands in the folder too, and is written after the
receiver has had it: after a crash some come twice, none is left out.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from serving.disk import write_whole
from serving.errors import ServingError
from serving.tenants.audit import Checkpoint, Record, strict_json
from serving.tenants.audit_anchors import Anchors
from serving.tenants.audit_store import AuditStore

_EVERY_SECONDS, _LONGEST_PAUSE = 1.0, 60.0
_BATCH = 200
_log = logging.getLogger(__name__)


class RecordReceiver(Protocol):
    def __call__(self, records: Sequence[Record]) -> None:
        """Raises OSError when they may not have arrived."""


class AuditStream:
    """folder: of the positions and the lock. on_sent: told of records that a receiver has had, on_failed of each try
    that failed. It never stops the server: what cannot be sent is sent later.
    """

    def __init__(
        self,
        store: AuditStore,
        anchors: Anchors,
        folder: Path,
        receivers: dict[str, RecordReceiver],
        *,
        every: float = _EVERY_SECONDS,
        on_sent: Callable[[str, int], None] = lambda receiver, count: None,
        on_failed: Callable[[str], None] = lambda receiver: None,
    ) -> None:
        self._store = store
        self._anchors = anchors
        self._folder = folder
        self._receivers = receivers
        self._every = every
        self._on_sent = on_sent
        self._on_failed = on_failed
        self._lock: int | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run(name)) for name in self._receivers]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._lock is not None:
            os.close(self._lock)

    async def _run(self, name: str) -> None:
        pause, arrives = self._every, True
        while True:
            try:
                await asyncio.to_thread(self._send_all, name)
            except (OSError, ServingError, ValueError) as error:
                self._on_failed(name)
                if arrives:
                    _log.warning("audit: records do not arrive at %s: %s", name, type(error).__name__)
                arrives, pause = False, min(2 * pause, _LONGEST_PAUSE)
            else:
                if not arrives:
                    _log.warning("audit: records arrive at %s again", name)
                arrives, pause = True, self._every
            await asyncio.sleep(pause)

    def _send_all(self, name: str) -> None:
        """All that this receiver has not had yet. Raises OSError, StoreUnavailable."""
        if not self._is_mine():
            return
        positions = self._positions(name)
        for anchor in self._anchors.all():
            if not isinstance(anchor, Checkpoint):
                continue
            while positions.get(anchor.chain, 0) < anchor.seq:
                records = self._store.after(anchor.chain, positions.get(anchor.chain, 0), _BATCH)
                if not records:  # they were pruned, or somebody deleted them
                    break
                self._receivers[name](records)
                positions[anchor.chain] = records[-1].seq
                write_whole(self._path(name), json.dumps(positions).encode())
                self._on_sent(name, len(records))

    def _is_mine(self) -> bool:
        if self._lock is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._folder / "stream.lock", os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
                return False
            self._lock = lock
        return True

    def _path(self, name: str) -> Path:
        return self._folder / f"sent-to-{name}.positions"

    def _positions(self, name: str) -> dict[str, int]:
        """Of a file that cannot be read nothing is believed: then all is sent again."""
        try:
            found = strict_json(self._path(name).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {k: v for k, v in found.items() if isinstance(v, int)} if isinstance(found, dict) else {}
