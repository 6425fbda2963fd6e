"""What a ResponseStore promises, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from serving.responses.response import Kept, ResponseStore, TooManyResponses
from serving.responses.sql import SqlResponses
from tests.tenants.databases import migrated

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
ONE = Kept("resp_1", "ward", None, "completed", False, NOON, NOON + HOUR, b"sealed \x00")
RUNNING = Kept("resp_2", "ward", "resp_1", "queued", True, NOON, NOON + HOUR, b"", NOON)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ResponseStore]:
    with migrated(request.param, request, tmp_path) as engine:
        yield SqlResponses(engine)


def test_a_response_comes_back_as_it_went_in_and_for_its_tenant_alone(store: ResponseStore) -> None:
    for kept in (ONE, RUNNING):
        store.add(kept, most=9)
        assert store.get("ward", kept.id) == kept and store.get("lab", kept.id) is None
    assert store.remove("lab", "resp_1") is False
    assert store.remove("ward", "resp_1") is True and store.remove("ward", "resp_1") is False
    assert store.get("ward", "resp_1") is None


def test_a_tenant_has_its_number_whatever_others_have(store: ResponseStore) -> None:
    store.add(ONE, most=1)
    with pytest.raises(TooManyResponses, match="1 response"):
        store.add(RUNNING, most=1)
    store.add(replace(RUNNING, tenant="lab"), most=1)


def test_one_that_runs_is_held_and_ends_once(store: ResponseStore) -> None:
    store.add(RUNNING, most=9)
    assert store.is_open("resp_2") and store.hold("resp_2", NOON + HOUR) and store.is_open("resp_2")
    assert store.get("ward", "resp_2") == replace(RUNNING, status="in_progress", held_until=NOON + HOUR)
    assert store.end("resp_2", "completed", b"answer")
    assert store.get("ward", "resp_2") == replace(RUNNING, status="completed", held_until=None, content=b"answer")
    assert not store.end("resp_2", "cancelled") and not store.hold("resp_2", NOON + HOUR)
    assert not store.is_open("resp_2")
    assert store.get("ward", "resp_2") == replace(RUNNING, status="completed", held_until=None, content=b"answer")


def test_one_that_is_gone_can_be_neither_held_nor_ended(store: ResponseStore) -> None:
    assert not store.hold("resp_2", NOON) and not store.end("resp_2", "failed") and not store.is_open("resp_2")


def test_one_that_ends_without_an_answer_keeps_its_content(store: ResponseStore) -> None:
    store.add(replace(RUNNING, content=b"question"), most=9)
    store.end("resp_2", "cancelled")
    assert store.get("ward", "resp_2") == replace(RUNNING, status="cancelled", held_until=None, content=b"question")


def test_those_that_nobody_works_on_have_failed(store: ResponseStore) -> None:
    store.add(ONE, most=9)
    store.add(RUNNING, most=9)
    store.add(replace(RUNNING, id="resp_3", held_until=NOON + HOUR), most=9)
    assert store.fail_lost(NOON + timedelta(seconds=1)) == 1
    states = [kept.status for id in ("resp_1", "resp_2", "resp_3") if (kept := store.get("ward", id))]
    assert states == ["completed", "failed", "queued"]


def test_a_sweep_deletes_what_is_over_too_old_or_not_kept_any_more(store: ResponseStore) -> None:
    def there() -> list[str]:
        return [id for tenant in ("ward", "lab") for id in ("a", "b") if store.get(tenant, f"{tenant}-{id}")]

    for tenant in ("ward", "lab"):
        store.add(replace(ONE, id=f"{tenant}-a", tenant=tenant), most=9)
        store.add(
            replace(ONE, id=f"{tenant}-b", tenant=tenant, created_at=NOON + HOUR, expires_at=NOON + 9 * HOUR), most=9
        )
    oldest = {"ward": NOON - HOUR, "lab": NOON - HOUR}
    assert store.sweep(NOON, oldest, others=NOON) == 0
    assert store.sweep(NOON + HOUR, oldest, others=NOON) == 2 and there() == ["b", "b"]
    assert store.sweep(NOON + HOUR, oldest | {"lab": NOON + HOUR}, others=NOON) == 1
    assert store.get("lab", "lab-b") is None
    assert store.sweep(NOON + HOUR, {f"t{n}": NOON for n in range(2000)} | oldest, others=NOON) == 0
    assert store.sweep(NOON + HOUR, {}, others=NOON) == 0
    assert store.sweep(NOON + HOUR, {}, others=NOON + HOUR) == 1 and there() == []
