"""Access in the audit log: what was refused, and who read audit, usage and keys. Bounded, however many come.

The first of a kind in a minute is a record at once; further ones of the same kind are counted, and are one record when
the minute is over. A kind is who, from where, what and how it ended. Of more kinds than `most` in a minute only the
number is kept: to flood the log, and through it the disk, is not possible from outside.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from serving.tenants.audit import AuditEvent
from serving.tenants.trail import Audit

_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Access:
    """action: a method and a route, or a verb. target: whose, where there is one. actor: the id of a key or identity;
    of one that is not known, the prefix of what was shown, if it was a key at all. outcome: ok, or an error's code.
    """

    action: str
    outcome: str
    tenant: str = ""
    actor: str = ""
    address: str = ""
    target: str = ""


class AccessLog:
    """most: kinds in a minute."""

    def __init__(self, audit: Audit, now: Callable[[], datetime], *, most: int = 200) -> None:
        self._audit = audit
        self._now = now
        self._most = most
        self._lock = threading.Lock()
        self._since = now()
        self._more: dict[Access, int] = {}
        self._beyond = 0
        self._task: asyncio.Task[None] | None = None

    def note(self, access: Access, request_id: str = "") -> None:
        """A plain call that waits for nothing."""
        with self._lock:
            if (self._now() - self._since).total_seconds() >= _SECONDS:
                self._turn()
            if access in self._more:
                self._more[access] += 1
                return
            if len(self._more) >= self._most:
                self._beyond += 1
                return
            self._more[access] = 0
        self._record(access, request_id, {"count": 1})

    def flush(self) -> None:
        """Record what was only counted so far."""
        with self._lock:
            self._turn()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self.flush()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_SECONDS)
            self.flush()

    def _turn(self) -> None:
        since = {"since": self._since.isoformat(timespec="seconds")}
        for access, count in self._more.items():
            if count:
                self._record(access, "", {"count": count} | since)
        if self._beyond:
            self._record(Access("various", "various"), "", {"count": self._beyond} | since)
        self._since, self._beyond = self._now(), 0
        self._more.clear()

    def _record(self, access: Access, request_id: str, counted: dict[str, Any]) -> None:
        details = {
            "action": access.action,
            "target": access.target,
            "outcome": access.outcome,
            "address": access.address,
            **counted,
        }
        self._audit.record(AuditEvent("access", self._now(), access.tenant, access.actor, request_id, details))


class NoAccessLog:
    """An access log that is off."""

    def note(self, access: Access, request_id: str = "") -> None: ...
    def flush(self) -> None: ...
