"""Who may prune the audit log, and what: by retention, by two, with a statement."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from serving.errors import InvalidRequest
from serving.tenants.audit import Signer
from serving.tenants.audit_log import AuditLog
from serving.tenants.audit_pruning import Pruning
from serving.tenants.audit_store import MemoryAudit
from serving.tenants.audit_verify import verify
from serving.tenants.callers import ROLES, Caller
from tests.tenants.audit_events import NOON, SEED, logging_to, written

ANNE, BEN = (Caller("system", name, name, roles=frozenset(ROLES)) for name in ("cli:anne", "cli:ben"))
DAY = 86400.0
LATER = NOON + timedelta(days=100)


@pytest.fixture
def store(tmp_path: Path) -> MemoryAudit:
    store = MemoryAudit()
    written(store, tmp_path, range(10), now=lambda: NOON)
    return store


@pytest.fixture
def log(store: MemoryAudit, tmp_path: Path) -> Iterator[AuditLog]:
    with logging_to(store, tmp_path, now=lambda: LATER) as log:
        yield log


def pruning(
    log: AuditLog, store: MemoryAudit, *, keep: float | None = 30 * DAY, approvals: int = 1, now: datetime = LATER
) -> Pruning:
    return Pruning(log, store, lambda: now, keep=keep, approvals=approvals)


def test_two_administrators_prune_and_the_log_says_who_and_what(log: AuditLog, store: MemoryAudit) -> None:
    old = {record.chain for record in store.records()}
    id = pruning(log, store).request(ANNE, NOON + timedelta(days=1))
    assert isinstance(id, str) and old <= {record.chain for record in store.records()}
    assert pruning(log, store).approve(BEN, id) > 10
    assert log.flush()
    (statement,) = [record for record in store.records() if record.kind == "pruned"]
    details = json.loads(statement.body)["details"]
    assert details["by"] == ["cli:anne", "cli:ben"] and {head[0] for head in details["heads"]} == old
    report = verify(store.records(), store.checkpoints(), [Signer(SEED).public_key])
    assert report.valid and {(one.chain, one.why) for one in report.missing} == {(chain, "pruned") for chain in old}


def test_nobody_approves_what_he_asked_for(log: AuditLog, store: MemoryAudit) -> None:
    id = str(pruning(log, store).request(ANNE, NOON + timedelta(days=1)))
    with pytest.raises(InvalidRequest, match="another administrator"):
        pruning(log, store).approve(ANNE, id)


@pytest.mark.parametrize("id", ["prune_000000000000", "", "x" * 1000])
def test_what_nobody_asked_for_is_not_approved(log: AuditLog, store: MemoryAudit, id: str) -> None:
    with pytest.raises(InvalidRequest, match="Nobody has asked"):
        pruning(log, store).approve(BEN, id)


def test_a_request_ends_after_a_week(log: AuditLog, store: MemoryAudit) -> None:
    id = str(pruning(log, store).request(ANNE, NOON + timedelta(days=1)))
    with pytest.raises(InvalidRequest, match="seven days"):
        pruning(log, store, now=LATER + timedelta(days=8)).approve(BEN, id)


def test_a_request_that_was_refused_is_none(log: AuditLog, store: MemoryAudit) -> None:
    with pytest.raises(InvalidRequest):
        pruning(log, store).request(ANNE, LATER)
    assert log.flush()
    refused = next(json.loads(r.body)["details"] for r in store.records() if r.kind == "admin")
    with pytest.raises(InvalidRequest, match="Nobody has asked"):
        pruning(log, store).approve(BEN, refused["target"])


@pytest.mark.parametrize("keep", [None, 200 * DAY])
def test_what_retention_keeps_is_not_pruned(log: AuditLog, store: MemoryAudit, keep: float | None) -> None:
    with pytest.raises(InvalidRequest, match="retention"):
        pruning(log, store, keep=keep).request(ANNE, NOON + timedelta(days=1))


def test_one_decides_where_that_is_configured(log: AuditLog, store: MemoryAudit) -> None:
    removed = pruning(log, store, approvals=0).request(ANNE, NOON + timedelta(days=1))
    assert isinstance(removed, int) and removed > 10


def test_a_statement_that_is_pruned_itself_is_repeated(store: MemoryAudit, tmp_path: Path) -> None:
    for later in (10, 20):
        now = NOON + timedelta(days=later)
        with logging_to(store, tmp_path, now=lambda now=now: now) as log:
            log.prune(now - timedelta(days=1))
    report = verify(store.records(), store.checkpoints(), [Signer(SEED).public_key])
    assert report.valid and len(report.missing) == 2
