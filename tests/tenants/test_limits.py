"""What limits mean, and the book of what is in force: how it follows its stores, and what holds while they are away."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidRequest
from serving.tenants.limits import (
    HIGHEST_LIMIT,
    Limits,
    MemoryLimits,
    PolicyBook,
    Subject,
    check_limits,
    page_of,
)
from serving.tenants.paging import PageRequest
from serving.tenants.registry import MemoryTenants, Tenant, TenantDisabled
from serving.tenants.stores import StoreUnavailable

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WARD = Subject("tenant", "ward")
KEY = Subject("key", "ab12cd34")
FIELDS = [field.name for field in fields(Limits)]


class WatchedLimits(MemoryLimits):
    """Counts readings, and can be slow, away or damaged."""

    def __init__(self) -> None:
        super().__init__()
        self.readings = 0
        self.failure: Exception | None = None
        self.open = threading.Event()  # readings wait for it
        self.open.set()

    def all(self) -> Mapping[Subject, Limits]:
        rows = super().all()
        self.readings += 1
        self.open.wait(5)
        if self.failure:
            raise self.failure
        return rows


class Shelf:
    """A book with its stores and a clock that stands still until told."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.stale = 0
        self.limits = WatchedLimits()
        self.tenants = MemoryTenants()
        self.tenants.add(Tenant("ward", "Ward", NOON))
        self.book = PolicyBook(
            self.tenants,
            self.limits,
            defaults={"tenant": Limits(requests_per_minute=60, tokens_per_minute=1000)},
            every=0.01,
            timeout=0.05,
            on_stale=self.count,
            clock=lambda: self.seconds,
        )

    def count(self) -> None:
        self.stale += 1

    async def until_stale(self, times: int) -> None:
        async with asyncio.timeout(5):
            while self.stale < times:
                await asyncio.sleep(0.005)


@pytest.fixture
async def shelf() -> AsyncIterator[Shelf]:
    shelf = Shelf()
    yield shelf
    shelf.limits.open.set()
    await shelf.book.close()


values = st.none() | st.integers(0, HIGHEST_LIMIT)
rows = st.builds(Limits, *[values] * len(FIELDS))


@given(row=rows, defaults=rows)
def test_a_row_goes_over_the_defaults_field_by_field_and_zero_is_unlimited(row: Limits, defaults: Limits) -> None:
    in_force = row.over(defaults)
    for field in FIELDS:
        mine, default = getattr(row, field), getattr(defaults, field)
        assert getattr(in_force, field) == {None: default or None, 0: None}.get(mine, mine)
    assert in_force.over(Limits()) == Limits().over(in_force) == in_force


@given(row=rows)
def test_limits_in_range_are_accepted(row: Limits) -> None:
    check_limits(row)


@pytest.mark.parametrize("value", [-1, HIGHEST_LIMIT + 1, 1.5, True, "10"])
@pytest.mark.parametrize("field", FIELDS)
def test_a_limit_that_means_nothing_is_refused_by_its_name(field: str, value: int) -> None:
    with pytest.raises(InvalidRequest, match=field) as refusal:
        check_limits(Limits(**{field: value}))
    assert refusal.value.param == field


subjects = st.builds(Subject, st.sampled_from(["key", "tenant", "deployment"]), st.text("ab:", max_size=3))


@given(kept=st.sets(subjects), gone=st.sets(subjects), limit=st.integers(1, 4))
def test_pages_show_every_row_once_also_when_others_are_cleared_in_between(
    kept: set[Subject], gone: set[Subject], limit: int
) -> None:
    seen: list[Subject] = []
    present, after = kept | gone, None
    while True:
        page = page_of({subject: Limits() for subject in present}, PageRequest(limit, after))
        seen += [subject for subject, _ in page.items]
        present, after = kept, page.after
        if after is None:
            break
    assert len(seen) == len(set(seen))
    assert kept <= set(seen)


@pytest.mark.parametrize("after", ["", "ab12cd34", "nothing:ab12cd34"])
def test_a_cursor_without_a_scope_is_refused(after: str) -> None:
    with pytest.raises(InvalidRequest, match="after"):
        page_of({KEY: Limits()}, PageRequest(after=after))


def test_the_book_says_what_is_set_over_the_defaults_of_its_scope(shelf: Shelf) -> None:
    shelf.limits.set(WARD, Limits(requests_per_minute=0, tokens_per_day=5))
    shelf.limits.set(KEY, Limits(tokens_per_minute=7))
    shelf.book.refresh()
    assert shelf.book.limits_of(WARD) == Limits(tokens_per_minute=1000, tokens_per_day=5)
    assert shelf.book.limits_of(KEY) == Limits(tokens_per_minute=7)
    assert shelf.book.limits_of(Subject("tenant", "lab")) == Limits(60, 1000)
    assert shelf.book.limits_of(Subject("deployment", "echo")) == Limits()


def test_only_a_registered_tenant_that_is_not_disabled_passes(shelf: Shelf) -> None:
    shelf.tenants.add(Tenant("lab", "Lab", NOON, disabled_at=NOON))
    shelf.book.refresh()
    shelf.book.check_tenant("ward")
    assert [shelf.book.tenant_state(id) for id in ("ward", "lab", "nobody")] == ["active", "disabled", "unknown"]
    for id, words in (("lab", "is disabled"), ("nobody", "not registered")):
        with pytest.raises(TenantDisabled, match=words):
            shelf.book.check_tenant(id)


def test_the_tenant_of_those_who_run_the_server_always_passes(shelf: Shelf) -> None:
    shelf.book.check_tenant("system")


def test_before_the_first_reading_nothing_is_served_without_limits(shelf: Shelf) -> None:
    assert shelf.book.age is None
    for ask in (lambda: shelf.book.limits_of(KEY), lambda: shelf.book.check_tenant("ward")):
        with pytest.raises(StoreUnavailable):
            ask()


async def test_a_book_that_started_follows_what_others_change(shelf: Shelf) -> None:
    await shelf.book.start()
    assert shelf.book.tenant_state("ward") == "active"
    shelf.tenants.disable("ward", NOON)
    async with asyncio.timeout(5):
        while shelf.book.tenant_state("ward") == "active":
            await asyncio.sleep(0.005)


async def test_while_a_store_is_away_the_last_reading_stays_in_force_and_ages(shelf: Shelf) -> None:
    shelf.limits.set(KEY, Limits(7))
    await shelf.book.start()
    assert (shelf.book.age, shelf.stale) == (0.0, 0)
    shelf.limits.failure = StoreUnavailable()
    shelf.tenants.disable("ward", NOON)
    shelf.seconds = 100.0
    await shelf.until_stale(2)
    shelf.book.check_tenant("ward")
    assert shelf.book.limits_of(KEY) == Limits(7)
    assert shelf.book.age == 100.0


async def test_a_store_that_is_away_at_the_start_is_tried_until_it_answers(shelf: Shelf) -> None:
    shelf.limits.failure = StoreUnavailable()
    await shelf.book.start()
    assert shelf.stale == 1
    shelf.limits.failure = None
    async with asyncio.timeout(5):
        while shelf.book.age is None:
            await asyncio.sleep(0.005)
    shelf.book.check_tenant("ward")


async def test_a_store_that_hangs_is_away_and_holds_one_thread(shelf: Shelf) -> None:
    await shelf.book.start()
    before = shelf.limits.readings
    shelf.limits.open.clear()
    await shelf.until_stale(3)
    shelf.book.check_tenant("ward")
    assert shelf.limits.readings == before + 1


async def test_a_row_that_cannot_be_read_is_counted_and_does_not_end_the_following(shelf: Shelf) -> None:
    await shelf.book.start()
    shelf.limits.failure = ValueError("a row of the next release")
    await shelf.until_stale(2)
    shelf.limits.failure = None
    shelf.tenants.disable("ward", NOON)
    async with asyncio.timeout(5):
        while shelf.book.tenant_state("ward") == "active":
            await asyncio.sleep(0.005)


def test_a_slow_reading_does_not_put_back_what_was_in_force_before(shelf: Shelf) -> None:
    held = shelf.limits.open
    held.clear()
    slow, quick = (threading.Thread(target=shelf.book.refresh) for _ in range(2))
    slow.start()
    while not shelf.limits.readings:
        time.sleep(0.001)
    shelf.limits.set(KEY, Limits(7))
    shelf.limits.open = threading.Event()
    shelf.limits.open.set()
    quick.start()
    quick.join(0.1)  # it waits for the slow one
    held.set()
    slow.join()
    quick.join()
    assert shelf.book.limits_of(KEY) == Limits(7)
