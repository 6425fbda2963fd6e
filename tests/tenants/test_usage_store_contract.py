"""What any UsageStore promises, checked on each of them: memory, SQLite and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from serving.errors import InvalidRequest
from serving.tenants.ledger import (
    GROUPS,
    Group,
    MemoryUsage,
    UsageQuery,
    UsageRecord,
    UsageStore,
    decoded,
    encoded,
)
from serving.tenants.limits import Subject
from serving.tenants.paging import PageRequest
from serving.tenants.sql import SqlUsage
from serving.tenants.writer import BatchWriter
from tests.tenants.databases import migrated

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[UsageStore]:
    if request.param == "memory":
        yield MemoryUsage()
        return
    with migrated(request.param, request, tmp_path) as engine:
        yield SqlUsage(engine)


def record(id: str, **changes: object) -> UsageRecord:
    one = UsageRecord(
        id=id, started_at=NOON, tenant="ward", key_id="k1", key_name="ci", deployment="demo", revision="sha256:1",
        operation="chat", stream=True, outcome="ok", prompt_tokens=10, cached_tokens=4, completion_tokens=5,
        cost_micros=7, first_token=0.1, duration=1.5,
    )  # fmt: skip
    return replace(one, **changes)  # type: ignore[arg-type]


def test_a_record_comes_back_as_it_went_in(store: UsageStore) -> None:
    one = record("a", cost_micros=None, first_token=None)
    store.add([one])
    assert list(store.records(UsageQuery())) == [one]


def test_a_record_that_comes_again_counts_once_even_beside_new_ones(store: UsageStore) -> None:
    store.add([record("a")])
    store.add([record("a", completion_tokens=99), record("b")])
    (row,) = store.usage(UsageQuery(by=("tenant",))).items
    assert (row.requests, row.completion_tokens) == (2, 10)


@pytest.mark.parametrize("value", [{"prompt_tokens": 2**70}, {"key_name": "\ud800"}, {"tenant": None}])
def test_one_that_cannot_be_kept_does_not_keep_the_others_out(
    store: UsageStore, tmp_path: Path, value: dict[str, object]
) -> None:
    spool = tmp_path / "spool"
    writer = BatchWriter[UsageRecord](store.add, encode=encoded, decode=decoded, spool=spool)
    for one in (record("a"), record("bad", **value), record("b")):
        writer.put(one)
    writer.start()
    assert writer.flush(10)
    writer.close()
    holds_anything = isinstance(store, MemoryUsage)
    assert {one.id for one in store.records(UsageQuery())} == {"a", "b"} | ({"bad"} if holds_anything else set())
    assert [path.suffix for path in spool.glob("*")] == ([] if holds_anything else [".bad"])


def test_sums_are_by_what_the_query_groups_by(store: UsageStore) -> None:
    store.add([record("a"), record("b", tenant="lab"), record("c", started_at=NOON + timedelta(days=1))])
    rows = store.usage(UsageQuery(by=("tenant", "day"))).items
    assert [(r.tenant, r.day, r.requests, r.total_tokens, r.cost_micros, r.key) for r in rows] == [
        ("lab", date(2026, 3, 1), 1, 15, 7, None),
        ("ward", date(2026, 3, 1), 1, 15, 7, None),
        ("ward", date(2026, 3, 2), 1, 15, 7, None),
    ]


def test_usage_without_a_price_has_no_cost(store: UsageStore) -> None:
    store.add([record("a", cost_micros=None)])
    assert store.usage(UsageQuery()).items[0].cost_micros is None


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (UsageQuery(tenant="lab"), {"b"}),
        (UsageQuery(key="k2"), {"c"}),
        (UsageQuery(deployment="big"), {"d"}),
        (UsageQuery(since=NOON + timedelta(hours=1)), {"e"}),
        (UsageQuery(until=NOON + timedelta(hours=1)), {"a", "b", "c", "d"}),
        (UsageQuery(tenant="nobody"), set()),
    ],
)
def test_a_query_finds_only_what_fits(store: UsageStore, query: UsageQuery, found: set[str]) -> None:
    later = NOON + timedelta(hours=1)
    store.add([record("a"), record("b", tenant="lab"), record("c", key_id="k2"), record("d", deployment="big")])
    store.add([record("e", started_at=later)])
    assert {one.id for one in store.records(query)} == found
    assert sum(row.requests for row in store.usage(query).items) == len(found)


@pytest.mark.parametrize("by", [(group,) for group in GROUPS] + [("key", "day", "tenant")])
def test_pages_hold_everything_once_and_in_order(store: UsageStore, by: tuple[Group, ...]) -> None:
    store.add(
        [
            record(
                f"{n}-{m}", tenant=f"Ünit-{n}", key_id=f"k{n}", deployment=f"d.{n}", started_at=NOON + timedelta(days=n)
            )
            for n in range(7)
            for m in range(2)
        ]
    )
    whole = store.usage(UsageQuery(by=by)).items
    rows, after = [], None
    while True:
        page = store.usage(UsageQuery(by=by, page=PageRequest(3, after)))
        rows += page.items
        if (after := page.after) is None:
            break
    assert tuple(rows) == whole and len(rows) == 7 and all(row.requests == 2 for row in rows)


@pytest.mark.parametrize("after", ["zz", "61,62", "-", "ff"])
def test_a_cursor_from_elsewhere_is_refused(store: UsageStore, after: str) -> None:
    with pytest.raises(InvalidRequest):
        store.usage(UsageQuery(by=("tenant",), page=PageRequest(3, after)))


def test_more_records_than_a_piece_come_in_the_order_of_their_time(store: UsageStore) -> None:
    store.add([record(f"{n:05}", started_at=NOON + timedelta(seconds=n // 3)) for n in range(2500)])
    assert [one.id for one in store.records(UsageQuery())] == [f"{n:05}" for n in range(2500)]


def test_what_a_subject_has_spent_since_a_time(store: UsageStore) -> None:
    store.add([record("a"), record("b", started_at=NOON - timedelta(days=1)), record("c", tenant="lab")])
    assert store.spent(Subject("tenant", "ward"), NOON) == 15
    assert store.spent(Subject("key", "k1"), NOON - timedelta(days=2)) == 45
    assert store.spent(Subject("deployment", "nothing"), NOON) == 0


def test_old_records_are_removed_and_counted(store: UsageStore) -> None:
    store.add([record("a"), record("b", started_at=NOON - timedelta(days=1))])
    assert store.delete_before(NOON) == 1
    assert [one.id for one in store.records(UsageQuery())] == ["a"]
