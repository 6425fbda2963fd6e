"""The audit log as a process writes it: chained in order, whatever the store does; refuses or counts when it must."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from serving.tenants.audit import AuditUnavailable, Checkpoint, Record
from serving.tenants.audit_log import AuditLog, NoAudit
from serving.tenants.audit_store import MemoryAudit
from serving.tenants.audit_verify import verify
from serving.tenants.stores import StoreUnavailable
from tests.tenants.audit_events import SEED, event, logging_to


class Moody(MemoryAudit):
    """A store that can be away, or fail after it has kept what it was given."""

    away = torn = False

    def append(self, records: Sequence[Record], checkpoint: Checkpoint) -> None:
        if self.away:
            raise StoreUnavailable
        super().append(records, checkpoint)
        if self.torn:
            self.torn = False
            raise StoreUnavailable


def valid(store: MemoryAudit, log: AuditLog) -> bool:
    return verify(store.records(), store.checkpoints(), [log.public_key]).valid


def requests(store: MemoryAudit) -> list[str]:
    return [record.request_id for record in store.records() if record.kind == "inference"]


def test_a_chain_opens_with_the_first_event_and_is_closed_in_order(tmp_path: Path) -> None:
    store = MemoryAudit()
    with logging_to(store, tmp_path) as log:
        assert not list(store.records())
        log.record(event(1))
        assert log.flush()
    kinds = [record.kind for record in store.records()]
    assert kinds[0] == "opened" and kinds[-1] == "closed" and "inference" in kinds
    assert valid(store, log)


def test_threads_that_record_at_once_share_one_chain(tmp_path: Path) -> None:
    store = MemoryAudit()
    with logging_to(store, tmp_path) as log:

        def record(first: int) -> None:
            for number in range(first, first + 200):
                log.record(event(number))

        threads = [threading.Thread(target=record, args=(1000 * n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert log.flush()
    assert len(set(requests(store))) == 800 and valid(store, log)


def test_a_batch_whose_outcome_is_unknown_is_written_once(tmp_path: Path) -> None:
    store = Moody()
    store.torn = True
    with logging_to(store, tmp_path) as log:
        for number in range(5):
            log.record(event(number))
        assert log.flush()
    assert requests(store) == [f"req_{number}" for number in range(5)] and valid(store, log)


def test_a_log_that_cannot_be_written_refuses_after_the_grace_and_recovers_by_itself(tmp_path: Path) -> None:
    store = Moody()
    with logging_to(store, tmp_path, grace=0.2) as log:
        store.away = True
        log.record(event(1))
        log.check()
        time.sleep(0.5)
        with pytest.raises(AuditUnavailable) as refused:
            log.check()
        assert refused.value.retry_after
        store.away = False
        assert log.flush()
        log.check()
    assert requests(store) == ["req_1"] and valid(store, log)


def test_a_log_that_may_be_missing_is_counted_instead(tmp_path: Path) -> None:
    store, counted = Moody(), list[int]()
    options = {"grace": 0.0, "when_away": "continue", "on_unwritten": lambda: counted.append(1)}
    with logging_to(store, tmp_path, **options) as log:
        store.away = True
        log.record(event(1))
        time.sleep(0.2)
        log.check()
        store.away = False
    assert counted == [1]


def test_what_could_not_be_written_at_the_end_is_in_its_chain_after_the_next_start(tmp_path: Path) -> None:
    store = Moody()
    log = AuditLog(store, secret=b"s", seed=SEED, spool=tmp_path, flush=0.01)
    log.begin()
    store.away = True
    for number in range(3):
        log.record(event(number))
    log.end()
    assert not list(store.records())
    store.away = False
    with logging_to(store, tmp_path) as again:
        again.record(event(3))
        assert again.flush()
    assert sorted(requests(store)) == [f"req_{number}" for number in range(4)] and valid(store, log)


def test_now_and_then_a_writer_records_where_the_others_end_and_tells_where_it_is(tmp_path: Path) -> None:
    store, told = MemoryAudit(), list[tuple[str, int, str]]()
    with logging_to(store, tmp_path) as first:
        first.record(event(1))
        assert first.flush()
        options = {"witness": 0.05, "on_checkpoint": lambda *head: told.append(head)}
        with logging_to(store, tmp_path, **options) as second:
            for number in range(5):
                second.record(event(number))
                assert second.flush()
                time.sleep(0.06)
    witnesses = [json.loads(r.body)["details"]["heads"] for r in store.records() if r.kind == "witness"]
    assert any(heads for heads in witnesses) and told
    hashes = {(record.chain, record.seq): record.hash for record in store.records()}
    assert all(hashes[chain, seq] == hash for chain, seq, hash in told) and valid(store, first)


def test_digests_are_keyed_and_the_same_in_pieces(tmp_path: Path) -> None:
    log = AuditLog(MemoryAudit(), secret=b"a", seed=SEED, spool=tmp_path)
    other = AuditLog(MemoryAudit(), secret=b"b", seed=SEED, spool=tmp_path)
    digester = log.digester()
    digester.update(b"lisinopril ")
    digester.update(b"10 mg")
    assert digester.hexdigest() == log.digest(b"lisinopril 10 mg") != other.digest(b"lisinopril 10 mg")


def test_details_that_are_no_json_break_no_chain(tmp_path: Path) -> None:
    store = MemoryAudit()
    with logging_to(store, tmp_path) as log:
        for details in ({"x": float("nan")}, {"x": object()}):
            with pytest.raises((TypeError, ValueError)):
                log.record(event(1, **details))
        log.record(event(2))
        assert log.flush()
    assert valid(store, log)


async def test_switched_off_there_is_nothing() -> None:
    audit = NoAudit()
    audit.check()
    audit.record(event(1))
    assert audit.digest(b"x") == ""
