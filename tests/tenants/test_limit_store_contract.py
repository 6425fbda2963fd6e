"""What any LimitStore promises, checked on each of them: memory, SQLite and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.tenants.limits import HIGHEST_LIMIT, Limits, LimitStore, MemoryLimits, Subject
from serving.tenants.sql import SqlLimits
from tests.tenants.databases import SEALS, migrated

WARD = Subject("tenant", "ward")
KEY = Subject("key", "ab12cd34")
ALL_SET = Limits(1, 2, 3, 4, 5)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LimitStore]:
    if request.param == "memory":
        yield MemoryLimits()
        return
    with migrated(request.param, request, tmp_path) as engine:
        yield SqlLimits(engine, SEALS)


def test_a_row_comes_back_as_it_went_in(store: LimitStore) -> None:
    store.set(WARD, ALL_SET)
    assert store.get(WARD) == ALL_SET


def test_not_set_unlimited_and_the_highest_stay_apart(store: LimitStore) -> None:
    row = Limits(requests_per_minute=0, tokens_per_month=HIGHEST_LIMIT)
    store.set(WARD, row)
    assert store.get(WARD) == row


def test_a_subject_without_a_row_has_one_that_sets_nothing(store: LimitStore) -> None:
    store.set(WARD, ALL_SET)
    assert store.get(KEY) == store.get(Subject("deployment", "ward")) == Limits()


def test_setting_again_replaces_the_whole_row(store: LimitStore) -> None:
    store.set(WARD, ALL_SET)
    store.set(WARD, Limits(tokens_per_day=9))
    assert store.get(WARD) == Limits(tokens_per_day=9)


def test_clearing_takes_one_row_and_may_be_repeated(store: LimitStore) -> None:
    store.set(WARD, ALL_SET)
    store.set(KEY, ALL_SET)
    for _ in range(2):
        store.clear(WARD)
    assert store.all() == {KEY: ALL_SET}


def test_all_rows_are_read_by_subject(store: LimitStore) -> None:
    rows = {WARD: Limits(1), KEY: Limits(2), Subject("deployment", "ward"): Limits(3)}
    for subject, row in rows.items():
        store.set(subject, row)
    assert store.all() == rows
