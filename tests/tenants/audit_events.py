"""Events and logs for the tests of the audit log."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from serving.tenants.audit import AuditEvent
from serving.tenants.audit_log import AuditLog
from serving.tenants.audit_store import AuditStore

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
SEED = b"seed of the signing key, 32 byte"


def event(number: int = 0, tenant: str = "ward", **details: Any) -> AuditEvent:
    return AuditEvent(
        kind="inference",
        at=NOON + timedelta(seconds=number),
        tenant=tenant,
        actor="k1",
        request_id=f"req_{number}",
        details={"completion_tokens": number, "parameters": {"temperature": 0.5}} | details,
    )


@contextmanager
def logging_to(store: AuditStore, spool: Path, **options: Any) -> Iterator[AuditLog]:
    """A log that is closed in order at the end."""
    log = AuditLog(store, secret=b"secret", seed=SEED, spool=spool, flush=0.01, **options)
    log.begin()
    try:
        yield log
    finally:
        log.end()


def written(store: AuditStore, spool: Path, numbers: range, now: Callable[[], datetime] | None = None) -> AuditLog:
    """A whole chain with these events."""
    with logging_to(store, spool, **({"now": now} if now else {})) as log:
        for number in numbers:
            log.record(event(number))
            if number % 3 == 2:
                assert log.flush()
    return log
