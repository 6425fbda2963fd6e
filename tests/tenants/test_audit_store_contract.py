"""What any AuditStore promises, checked on each of them: memory, SQLite and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from serving.errors import InvalidRequest
from serving.tenants.audit import Chain, Record, Signer
from serving.tenants.audit_store import AuditQuery, AuditStore, MemoryAudit, RecordConflict
from serving.tenants.audit_verify import verify
from serving.tenants.paging import PageRequest
from serving.tenants.sql import SqlAudit
from tests.tenants.audit_events import NOON, SEED, logging_to, written
from tests.tenants.databases import migrated

SIGNER = Signer(SEED)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AuditStore]:
    if request.param == "memory":
        yield MemoryAudit()
        return
    with migrated(request.param, request, tmp_path) as engine:
        yield SqlAudit(engine)


def a_chain(store: AuditStore, id: str = "20260301T120000-aa", records: int = 3, batch: int = 1) -> list[Record]:
    chain, made = Chain(id), list[Record]()
    for number in range(records):
        made.append(
            chain.append(
                "inference",
                NOON + timedelta(days=number),
                {"prompt": f"{number:064}"},
                tenant="ward",
                request=f"req_{number}",
            )
        )
        if (number + 1) % batch == 0:
            store.append(made[-batch:], SIGNER.sign(chain.head, NOON))
    return made


def test_records_and_checkpoints_come_back_as_they_went_in_by_chain_and_place(store: AuditStore) -> None:
    second, first = a_chain(store, "20260301T120000-bb"), a_chain(store, records=4, batch=2)
    assert list(store.records()) == first + second
    assert [(c.chain, c.seq) for c in store.checkpoints()] == [
        *((first[0].chain, seq) for seq in (2, 4)),
        *((second[0].chain, seq) for seq in (1, 2, 3)),
    ]
    assert verify(store.records(), store.checkpoints(), [SIGNER.public_key]).valid


def test_more_than_a_piece_is_read_whole(store: AuditStore) -> None:
    a_chain(store, records=2400, batch=800)
    assert [record.seq for record in store.records()] == list(range(1, 2401))


def test_the_same_batch_again_changes_nothing(store: AuditStore) -> None:
    chain = Chain("20260301T120000-aa")
    records = [chain.append("inference", NOON, {}) for _ in range(3)]
    for _ in range(2):
        store.append(records, SIGNER.sign(chain.head, NOON))
    assert list(store.records()) == records


def test_another_record_in_a_place_that_is_taken_is_refused(store: AuditStore) -> None:
    (first,) = a_chain(store, records=1)
    other = replace(first, hash="0" * 64)
    with pytest.raises(RecordConflict):
        store.append([other], SIGNER.sign(Chain(first.chain).head, NOON))
    assert list(store.records()) == [first]


def test_heads_are_where_chains_end(store: AuditStore) -> None:
    first, second = a_chain(store), a_chain(store, "20260301T120000-bb", records=5)
    assert [(head.chain, head.seq, head.hash) for head in store.heads()] == [
        (chain[-1].chain, chain[-1].seq, chain[-1].hash) for chain in (first, second)
    ]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (AuditQuery(), [2, 1, 0]),
        (AuditQuery(request_id="req_1"), [1]),
        (AuditQuery(digest=f"{1:064}"), [1]),
        (AuditQuery(digest="%"), []),
        (AuditQuery(since=NOON + timedelta(days=1)), [2, 1]),
        (AuditQuery(until=NOON + timedelta(days=1)), [0]),
        (AuditQuery(tenant="lab"), []),
        (AuditQuery(kind="inference"), [2, 1, 0]),
        (AuditQuery(kind="admin"), []),
    ],
)
def test_a_query_finds_what_fits_the_newest_first(store: AuditStore, query: AuditQuery, found: list[int]) -> None:
    records = a_chain(store)
    assert [records.index(record) for record in store.find(query).items] == found


def test_pages_hold_everything_once(store: AuditStore) -> None:
    both = a_chain(store, records=5) + a_chain(store, "20260301T120000-bb", records=5)
    seen, after = list[Record](), None
    while True:
        page = store.find(AuditQuery(page=PageRequest(3, after)))
        seen += page.items
        if (after := page.after) is None:
            break
    assert seen == sorted(both, key=lambda r: (r.at, r.chain, r.seq), reverse=True)


@pytest.mark.parametrize("after", ["x", "2026/a/b", "2026-03-01T12:00:00/a/1"])
def test_a_cursor_from_elsewhere_is_refused(store: AuditStore, after: str) -> None:
    with pytest.raises(InvalidRequest):
        store.find(AuditQuery(page=PageRequest(3, after)))


def test_a_chain_is_pruned_up_to_a_checkpoint_and_no_younger_record_with_it(store: AuditStore) -> None:
    records = a_chain(store, records=6, batch=2)
    heads = store.prunable(NOON + timedelta(days=3))  # three are older; the batch of the third reaches further
    assert [(head.seq, head.hash) for head in heads] == [(2, records[1].hash)]
    assert store.prune(heads) == 2
    assert list(store.records()) == records[2:] and [c.seq for c in store.checkpoints()] == [2, 4, 6]
    assert store.prunable(NOON) == []


def test_after_pruning_by_the_log_the_rest_verifies_and_the_removed_is_told_from_the_lost(
    store: AuditStore, tmp_path: Path
) -> None:
    written(store, tmp_path, range(10), now=lambda: NOON)
    log = written(store, tmp_path, range(100_000, 100_010), now=lambda: NOON + timedelta(days=2))
    assert len(store.heads()) == 2
    with logging_to(store, tmp_path) as third:
        assert third.prune(NOON + timedelta(days=1)) == 13
    assert len(store.heads()) == 2  # the young one's, and that of who pruned
    assert verify(store.records(), store.checkpoints(), [log.public_key]).valid
