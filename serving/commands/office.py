"""The office: what an administrative command works with. Opened by the assembly, closed when the command ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from serving.secrets import SecretSource
from serving.tenants.administration import Administration
from serving.tenants.audit import Checkpoint, Head, Unreadable
from serving.tenants.audit_log import AuditLog
from serving.tenants.audit_pruning import Pruning
from serving.tenants.audit_store import AuditStore
from serving.tenants.callers import Caller
from serving.tenants.ledger import UsageStore
from serving.tenants.sql import SecretUses


@dataclass(frozen=True, slots=True)
class Office:
    """kept_anchors: what this machine keeps of the audit log apart from its database. public_keys: verify the audit
    log. actor: who is at the shell; the system's administrator, by its own name. uses: what needs which version of a
    secret. source: where the secrets are. close: writes what the audit log still
    holds.
    """

    administration: Administration
    audit_store: AuditStore
    usage_store: UsageStore
    audit_log: AuditLog
    pruning: Pruning
    kept_anchors: Callable[[], list[Head | Checkpoint | Unreadable]]
    public_keys: tuple[str, ...]
    actor: Caller
    uses: SecretUses
    source: SecretSource
    close: Callable[[], None]

    @property
    def public_key(self) -> str:
        """Of the key that signs now."""
        return self.public_keys[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
