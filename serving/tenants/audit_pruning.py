"""Pruning the audit log: by a retention that is set, by the word of two, and with a statement of what went.

A request is a record of the log itself, so it is signed, and cannot be made or changed in the database. It holds for a
week, and is approved by another administrator than the one who asked.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from serving.errors import InvalidRequest
from serving.tenants.audit import Record
from serving.tenants.audit_log import AuditLog
from serving.tenants.audit_store import AuditQuery, AuditStore
from serving.tenants.callers import SYSTEM_TENANT, Caller
from serving.tenants.paging import LONGEST_PAGE, PageRequest
from serving.tenants.rights import require_system
from serving.tenants.stores import StoreUnavailable
from serving.tenants.trail import Trail

REQUESTED = "audit.prune.request"
_VALID = timedelta(days=7)


class Pruning:
    """keep: seconds for which every record is kept; None: for ever. approvals: of others than who asked, 0 or 1."""

    def __init__(
        self, log: AuditLog, store: AuditStore, now: Callable[[], datetime], *, keep: float | None, approvals: int
    ) -> None:
        self._log = log
        self._store = store
        self._now = now
        self._keep = keep
        self._approvals = approvals
        self._trail = Trail(log, now)

    def request(self, actor: Caller, before: datetime) -> str | int:
        """Ask for what is older to be deleted: the id under which another administrator approves; or, where one may
        decide, how many records went. For an auditor of system. Raises InvalidRequest for what retention keeps.
        """
        id = f"prune_{secrets.token_hex(6)}"
        action = REQUESTED if self._approvals else "audit.prune"
        with self._trail.change(actor, action, id, {"before": before.isoformat()}) as entry:
            require_system(actor, "auditor")
            entry.tenant = SYSTEM_TENANT
            self._check(before)
            if self._approvals:
                entry.result = id
            else:
                removed = self._log.prune(before, by=[actor.key_id])
                entry.result = str(removed)
        if not self._approvals:
            return removed
        if not self._log.flush():
            raise StoreUnavailable
        return id

    def approve(self, actor: Caller, id: str) -> int:
        """Delete what another administrator has asked for; how many records. Raises InvalidRequest."""
        with self._trail.change(actor, "audit.prune", id) as entry:
            require_system(actor, "auditor")
            entry.tenant = SYSTEM_TENANT
            asked_by, before = self._requested(id)
            if asked_by == actor.key_id:
                raise InvalidRequest("Who asked for it cannot approve it: another administrator does.", param="id")
            self._check(before)
            removed = self._log.prune(before, by=[asked_by, actor.key_id])
            entry.result = str(removed)
        return removed

    def _check(self, before: datetime) -> None:
        if before > self._now():
            raise InvalidRequest("'before' is in the future.", param="before")
        if self._keep is None:
            raise InvalidRequest(
                "The audit log is kept for ever: set audit.retention to how long records must be kept.", param="before"
            )
        oldest = self._now() - timedelta(seconds=self._keep)
        if before > oldest:
            raise InvalidRequest(
                f"audit.retention keeps what is younger than {oldest.isoformat(timespec='seconds')}.", param="before"
            )

    def _requested(self, id: str) -> tuple[str, datetime]:
        page = PageRequest(LONGEST_PAGE)
        while True:
            found = self._store.find(AuditQuery(kind="admin", since=self._now() - _VALID, page=page))
            for record in found.items:
                if (body := _request_in(record, id)) is not None:
                    return body["actor"], datetime.fromisoformat(body["details"]["parameters"]["before"])
            if found.after is None:
                raise InvalidRequest("Nobody has asked for this in the last seven days.", param="id")
            page = PageRequest(LONGEST_PAGE, found.after)


def _request_in(record: Record, id: str) -> dict[str, Any] | None:
    """The request of this id that was taken, if that is this record."""
    try:
        body = json.loads(record.body)
        details = body["details"]
        asked = details["action"] == REQUESTED and details["target"] == id and details["outcome"] == "done"
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return body if asked else None
