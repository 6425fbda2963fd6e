"""A real log in SQLite with its anchors: whatever one hand does to it is a finding, and nothing else is one."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from serving.commands.audit_file import StoredLog
from serving.tenants.audit import Signer
from serving.tenants.audit_anchor_check import AnchorCheck
from serving.tenants.audit_anchors import AnchorFolder
from serving.tenants.audit_log import AuditLog
from serving.tenants.audit_store import MemoryAudit
from serving.tenants.audit_verify import Report, verify
from serving.tenants.sql import SqlAudit, migrate, open_database
from tests.tenants.audit_events import NOON, SEED, event, logging_to

KEY = Signer(SEED).public_key


class Evidence:
    """A log in a folder: its database, and its anchors apart from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = open_database(f"sqlite:///{folder / 'audit.db'}")
        migrate(self.engine)
        self.store = SqlAudit(self.engine)
        self.anchors = AnchorFolder(folder / "anchors")

    def write(self, count: int, **options: Any) -> None:
        with logging_to(self.store, self.folder / "spool", anchors=self.anchors, **options) as log:
            for number in range(count):
                log.record(event(number))
                if number % 4 == 0:
                    assert log.flush()

    def check(self, *keys: str) -> Report:
        return verify(self.store.records(), self.store.checkpoints(), keys or (KEY,), anchors=list(self.anchors.all()))

    def run(self, statement: str, *values: Any) -> int:
        with closing(sqlite3.connect(self.folder / "audit.db")) as database, database:
            return database.execute(statement, values).rowcount

    def places(self, table: str) -> list[tuple[str, int]]:
        with closing(sqlite3.connect(self.folder / "audit.db")) as database:
            return database.execute(f"SELECT chain, seq FROM {table} ORDER BY chain, seq").fetchall()


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Two gateways' chains: one that has ended, one whose process crashed."""
    evidence = Evidence(tmp_path_factory.mktemp("original"))
    evidence.write(12)
    crashed = AuditLog(
        evidence.store, secret=b"s", seed=SEED, spool=evidence.folder / "spool", anchors=evidence.anchors, flush=0.01
    )
    crashed.begin()
    for number in range(6):
        crashed.record(event(100 + number))
        assert crashed.flush()
    assert evidence.check().valid
    evidence.engine.dispose()
    return evidence


@pytest.fixture(scope="module")
def copies(original: Evidence, tmp_path_factory: pytest.TempPathFactory) -> Any:
    def copy() -> Evidence:
        folder = tmp_path_factory.mktemp("copy")
        shutil.copytree(original.folder, folder, dirs_exist_ok=True)
        return Evidence(folder)

    return copy


TEXTS = st.one_of(
    st.text(max_size=8), st.sampled_from(["", "null", "[" * 100_000, "\0", '{"a":1,"a":2}', "NaN", "9" * 9000])
)
VALUES = st.one_of(TEXTS, st.integers(-(2**63), 2**63 - 1), st.binary(max_size=8), st.floats(allow_nan=False))
COLUMNS = {
    "audit_records": ("chain", "seq", "at", "kind", "tenant", "request_id", "body", "hash"),
    "audit_checkpoints": ("chain", "seq", "at", "hash", "signature"),
}


@settings(max_examples=60)
@given(data=st.data())
def test_any_field_of_any_row_that_says_something_else_is_a_finding(copies: Any, data: st.DataObject) -> None:
    evidence = copies()
    table = data.draw(st.sampled_from(sorted(COLUMNS)))
    column, value = data.draw(st.sampled_from(COLUMNS[table])), data.draw(VALUES)
    chain, seq = data.draw(st.sampled_from(evidence.places(table)))
    try:
        changed = evidence.run(
            f"UPDATE {table} SET {column} = ? WHERE chain = ? AND seq = ? AND {column} IS NOT ?",
            value,
            chain,
            seq,
            value,
        )
    except (sqlite3.IntegrityError, UnicodeEncodeError):
        assume(False)
    assume(changed)
    assert not evidence.check().valid
    evidence.engine.dispose()


@settings(max_examples=40)
@given(data=st.data())
def test_rows_that_are_deleted_moved_or_written_twice_are_a_finding(copies: Any, data: st.DataObject) -> None:
    evidence = copies()
    (chain, seq), (other, place) = (data.draw(st.sampled_from(evidence.places("audit_records"))) for _ in range(2))
    deed = data.draw(st.sampled_from(["delete", "cut off", "drop the chain", "drop all", "exchange", "copy", "swap"]))
    both = ("audit_records", "audit_checkpoints")
    if deed == "delete":
        evidence.run("DELETE FROM audit_records WHERE chain = ? AND seq BETWEEN ? AND ?", chain, seq, seq + 2)
    elif deed == "cut off":
        for table in both:
            evidence.run(f"DELETE FROM {table} WHERE chain = ? AND seq >= ?", chain, seq)
    elif deed == "drop the chain":
        for table in both:
            evidence.run(f"DELETE FROM {table} WHERE chain = ?", chain)
    elif deed == "drop all":
        for table in both:
            evidence.run(f"DELETE FROM {table}")
    elif deed == "exchange":
        assume((chain, seq) != (other, place))
        evidence.run("UPDATE audit_records SET chain = 'x', seq = 0 WHERE chain = ? AND seq = ?", chain, seq)
        evidence.run(
            "UPDATE audit_records SET chain = ?, seq = ? WHERE chain = ? AND seq = ?", chain, seq, other, place
        )
        evidence.run("UPDATE audit_records SET chain = ?, seq = ? WHERE chain = 'x'", other, place)
    elif deed == "copy":
        columns = "at, kind, tenant, request_id, body, hash"
        evidence.run(
            f"INSERT INTO audit_records (chain, seq, {columns}) SELECT chain, seq + 1000, {columns} "
            "FROM audit_records WHERE chain = ? AND seq = ?",
            chain,
            seq,
        )
    else:
        assume(chain != other)
        for table in both:
            for one, name in ((chain, "x"), (other, chain), ("x", other)):
                evidence.run(f"UPDATE {table} SET chain = ? WHERE chain = ?", name, one)
    assert not evidence.check().valid, deed
    evidence.engine.dispose()


@settings(max_examples=40)
@given(data=st.data())
def test_an_anchor_that_was_changed_is_a_finding(copies: Any, data: st.DataObject) -> None:
    evidence = copies()
    file = data.draw(st.sampled_from(sorted((evidence.folder / "anchors").glob("*.json"))))
    text = file.read_bytes()
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(text) - 2))
        file.write_bytes(text[:at] + data.draw(st.binary(min_size=1, max_size=1)) + text[at + 1 :])
    else:
        file.write_bytes(data.draw(st.sampled_from([b"", b"null", b"[" * 100_000, b"\xff", b"\0", b"{}", text[:-5]])))
    assume(file.read_bytes() != text)
    assert not evidence.check().valid
    evidence.engine.dispose()


def test_a_log_that_is_written_meanwhile_is_valid(tmp_path: Path) -> None:
    evidence, reports = Evidence(tmp_path), list[Report]()
    writer = threading.Thread(target=evidence.write, args=(200,))
    writer.start()
    while writer.is_alive():
        anchors = list(evidence.anchors.all())  # before the log, as the command does
        log = StoredLog(evidence.store)
        reports.append(verify(log.records(), log.checkpoints(), [KEY], anchors=anchors))
    assert reports and all(report.valid for report in reports), [r.findings for r in reports if not r.valid]


def test_a_log_that_the_product_pruned_is_valid_and_says_what_is_missing(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path)
    evidence.write(12, now=lambda: NOON)
    with logging_to(evidence.store, tmp_path / "spool", anchors=evidence.anchors) as log:
        log.record(event(1))
        assert log.prune(NOON + timedelta(hours=1)) > 0
    report = evidence.check()
    assert report.valid and [one.why for one in report.missing] == ["pruned"]


def test_a_log_of_two_signing_keys_is_valid_for_who_trusts_both(tmp_path: Path) -> None:
    evidence, other = Evidence(tmp_path), b"another seed of a signing key 32"
    evidence.write(3)
    log = AuditLog(evidence.store, secret=b"s", seed=other, spool=tmp_path / "spool", anchors=evidence.anchors)
    log.begin()
    log.record(event(7))
    log.end()
    assert not evidence.check().valid and evidence.check(KEY, Signer(other).public_key).valid


def test_a_gateway_sees_by_itself_that_its_anchors_know_more_than_the_database(copies: Any) -> None:
    evidence = copies()
    check = AnchorCheck(evidence.store, evidence.anchors, every=60)
    assert check.findings() == []
    evidence.run("DELETE FROM audit_records WHERE seq > 2")
    assert {finding.chain for finding in check.findings()} == {chain for chain, _ in evidence.places("audit_records")}


def test_anchors_that_cannot_be_kept_stop_no_log(tmp_path: Path) -> None:
    (tmp_path / "anchors").write_text("a file where the folder should be")
    store = MemoryAudit()
    with logging_to(store, tmp_path / "spool", anchors=AnchorFolder(tmp_path / "anchors")) as log:
        log.record(event(1))
        assert log.flush()
    assert [one.kind for one in store.records() if one.kind != "witness"] == ["opened", "inference", "closed"]
