"""Who is told of rows that somebody else changed: the audit log once, metrics each time, and a log line once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from serving.tenants.audit import AuditEvent
from serving.tenants.callers import SYSTEM_TENANT
from serving.tenants.trail import Audit

_MOST = 1000
_log = logging.getLogger(__name__)


class RefusedRows:
    """Called from several threads. on_refused: counts, by table."""

    def __init__(self, audit: Audit, now: Callable[[], datetime], on_refused: Callable[[str], None]) -> None:
        self._audit = audit
        self._now = now
        self._on_refused = on_refused
        self._told: set[tuple[str, str]] = set()

    def tell(self, table: str, id: str) -> None:
        self._on_refused(table)
        if (table, id) in self._told or len(self._told) >= _MOST:
            return
        self._told.add((table, id))
        shown = id[:200] if id.isprintable() else "?"
        _log.error("%s: the row of %s was changed by something else than this product, and is refused", table, shown)
        details = {"action": "row.refused", "target": f"{table}:{shown}", "outcome": "refused"}
        self._audit.record(
            AuditEvent("admin", self._now(), tenant=SYSTEM_TENANT, actor="server", request_id="", details=details)
        )
