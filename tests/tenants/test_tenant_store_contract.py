"""What any TenantStore promises, checked on each of them: memory, SQLite and a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from serving.errors import InvalidRequest
from serving.tenants.paging import PageRequest
from serving.tenants.registry import MemoryTenants, Tenant, TenantExists, TenantStore, UnknownTenant, check_new
from serving.tenants.sql import SqlTenants
from tests.tenants.databases import SEALS, migrated

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
WARD = Tenant("ward", "Ward 3, Charité", NOON)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TenantStore]:
    if request.param == "memory":
        yield MemoryTenants()
        return
    with migrated(request.param, request, tmp_path) as engine:
        yield SqlTenants(engine, SEALS)


def test_a_tenant_comes_back_as_it_went_in(store: TenantStore) -> None:
    store.add(WARD)
    assert store.get("ward") == WARD
    assert store.all() == (WARD,)


def test_an_id_is_given_once(store: TenantStore) -> None:
    store.add(WARD)
    with pytest.raises(TenantExists):
        store.add(Tenant("ward", "another", NOON))
    assert store.get("ward") == WARD


def test_a_tenant_that_does_not_exist_is_neither_found_nor_changed(store: TenantStore) -> None:
    for act in (store.get, store.enable, lambda id: store.disable(id, NOON), lambda id: store.keep_responses(id, 60)):
        with pytest.raises(UnknownTenant):
            act("nobody")
    assert store.all() == ()


def test_a_disabled_tenant_keeps_its_first_time_until_it_is_enabled(store: TenantStore) -> None:
    store.add(WARD)
    assert store.disable("ward", NOON + HOUR) == replace(WARD, disabled_at=NOON + HOUR)
    assert store.disable("ward", NOON + 2 * HOUR).disabled_at == NOON + HOUR
    assert store.get("ward").disabled_at == NOON + HOUR
    assert store.enable("ward") == store.get("ward") == WARD


def test_a_tenants_responses_are_kept_as_it_was_last_set(store: TenantStore) -> None:
    store.add(WARD)
    assert store.get("ward").keep_responses is None
    assert store.keep_responses("ward", 3600) == replace(WARD, keep_responses=3600) == store.get("ward")
    assert store.disable("ward", NOON).keep_responses == 3600
    assert store.keep_responses("ward", None).keep_responses is None


def test_pages_show_each_tenant_once_the_oldest_first(store: TenantStore) -> None:
    tenants = [Tenant(f"t{n}", "same time, in pairs", NOON + n // 2 * HOUR) for n in range(5)]
    for tenant in reversed(tenants):
        store.add(tenant)
    first = store.page(PageRequest(limit=3))
    second = store.page(PageRequest(limit=3, after=first.after))
    assert (*first.items, *second.items) == tuple(tenants) == store.all()
    assert (first.after, second.after) == ("t2", None)


def test_a_full_last_page_says_that_it_is_the_last(store: TenantStore) -> None:
    store.add(WARD)
    assert store.page(PageRequest(limit=1)).after is None


@pytest.mark.parametrize("after", ["nobody", ""])
def test_a_cursor_that_is_no_tenant_is_refused(store: TenantStore, after: str) -> None:
    store.add(WARD)
    with pytest.raises(InvalidRequest, match="after"):
        store.page(PageRequest(after=after))


def test_a_page_has_at_least_one_item_at_most_a_thousand_and_a_cursor_of_text() -> None:
    for limit, after in ((0, None), (1001, None), (10, "\x00"), (10, "\ud800")):
        with pytest.raises(InvalidRequest):
            PageRequest(limit, after)


@pytest.mark.parametrize("id", ["", "Ward", "ward 3", "ward/3", "charité", "w" * 64, "ward\n", "٣"])
def test_an_id_that_would_not_fit_into_a_path_is_refused(id: str) -> None:
    with pytest.raises(InvalidRequest, match="id of a tenant"):
        check_new(Tenant(id, "Ward", NOON))


@pytest.mark.parametrize("name", ["", " Ward", "two\nlines", "w" * 201])
def test_a_name_that_would_confuse_a_list_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="name of a tenant"):
        check_new(Tenant("ward", name, NOON))
