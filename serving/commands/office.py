"""The office: what an administrative command works with. Opened by the assembly, closed when the command ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from serving.tenants.administration import Administration
from serving.tenants.audit import Checkpoint, Head, Unreadable
from serving.tenants.audit_log import AuditLog
from serving.tenants.audit_pruning import Pruning
from serving.tenants.audit_store import AuditStore
from serving.tenants.callers import Caller
from serving.tenants.ledger import UsageStore


@dataclass(frozen=True, slots=True)
class Office:
    """kept_anchors: what this machine keeps of the audit log apart from its database. public_key: verifies the audit
    log. actor: who is at the shell; the system's administrator, by its own name. close: writes what the audit log still
    holds.
    """

    administration: Administration
    audit_store: AuditStore
    usage_store: UsageStore
    audit_log: AuditLog
    pruning: Pruning
    kept_anchors: Callable[[], list[Head | Checkpoint | Unreadable]]
    public_key: str
    actor: Caller
    close: Callable[[], None]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
