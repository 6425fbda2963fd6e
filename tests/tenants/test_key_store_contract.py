"""What any KeyStore promises, checked on each of them: memory, SQLite and a real PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from serving.errors import InvalidRequest
from serving.tenants.key_store import (
    ApiKey,
    DuplicateKey,
    KeyDigest,
    KeyEnded,
    KeyStore,
    MemoryKeys,
    TooManyKeys,
    UnknownKey,
)
from serving.tenants.paging import PageRequest
from serving.tenants.sql import SqlKeys
from tests.tenants.databases import SEALS, migrated

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeys()
        return
    with migrated(request.param, request, tmp_path) as engine:
        yield SqlKeys(engine, SEALS)


def a_key(id: str = "ab12cd34", tenant: str = "ward", name: str = "ci-bot", **changes: Any) -> ApiKey:
    key = ApiKey(
        id=id,
        tenant=tenant,
        name=name,
        prefix=f"csk_{id}",
        digest=KeyDigest(f"digest of {id}"),
        created_at=NOON,
        expires_at=None,
        revoked_at=None,
    )
    return replace(key, **changes)


def test_a_key_comes_back_as_it_went_in(store: KeyStore) -> None:
    key = a_key(expires_at=NOON + timedelta(days=90))
    store.add(key)
    assert store.find(key.digest) == key


def test_roles_and_bounds_of_a_key_come_back_as_they_went_in(store: KeyStore) -> None:
    key = a_key(
        roles=frozenset({"key_admin", "auditor"}),
        deployments=frozenset({"notes", "echo"}),
        networks=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
    )
    store.add(key)
    assert store.find(key.digest) == store.get(key.id) == store.get(key.prefix) == key


def test_a_key_that_may_call_nothing_is_not_one_that_may_call_all(store: KeyStore) -> None:
    store.add(a_key(deployments=frozenset(), networks=()))
    key = store.get("ab12cd34")
    assert (key.deployments, key.networks) == (frozenset(), ())


def test_an_unknown_digest_finds_nothing(store: KeyStore) -> None:
    store.add(a_key())
    assert store.find(KeyDigest("of another key")) is None


def test_times_come_back_in_utc_whatever_zone_they_went_in_with(store: KeyStore) -> None:
    berlin = timezone(timedelta(hours=1))
    store.add(a_key(expires_at=NOON.astimezone(berlin)))
    assert store.find(a_key().digest) == a_key(expires_at=NOON)


@pytest.mark.parametrize("taken", ["id", "prefix", "digest"])
def test_id_prefix_and_digest_are_each_given_once(store: KeyStore, taken: str) -> None:
    first, second = a_key("ab12cd34"), a_key("zz99zz99")
    store.add(first)
    with pytest.raises(DuplicateKey):
        store.add(replace(second, **{taken: getattr(first, taken)}))
    assert store.list(None) == [first]


@pytest.mark.parametrize("name", ["ab12cd34", "csk_ab12cd34"])
def test_a_key_is_revoked_by_its_id_or_its_prefix_and_still_found(store: KeyStore, name: str) -> None:
    store.add(a_key())
    store.add(a_key("zz99zz99"))
    assert store.revoke(name, NOON) == a_key(revoked_at=NOON)
    assert store.find(a_key().digest) == a_key(revoked_at=NOON)
    assert store.find(a_key("zz99zz99").digest) == a_key("zz99zz99")


def test_revoking_again_keeps_the_first_time(store: KeyStore) -> None:
    store.add(a_key())
    store.revoke("ab12cd34", NOON)
    assert store.revoke("ab12cd34", NOON + timedelta(days=1)).revoked_at == NOON


def test_revoking_an_unknown_key_is_an_error(store: KeyStore) -> None:
    store.add(a_key())
    with pytest.raises(UnknownKey):
        store.revoke("nobody", NOON)


def test_an_unknown_id_gets_nothing(store: KeyStore) -> None:
    store.add(a_key())
    with pytest.raises(UnknownKey):
        store.get("zz99zz99")


def test_keys_are_listed_oldest_first_for_one_tenant_or_all(store: KeyStore) -> None:
    late = a_key("aaaaaaaa", created_at=NOON + timedelta(hours=1))
    early = a_key("bbbbbbbb")
    other = a_key("cccccccc", tenant="lab", created_at=NOON - timedelta(hours=1))
    for key in (late, early, other):
        store.add(key)
    assert store.list("ward") == [early, late]
    assert store.list(None) == [other, early, late]
    assert store.list("nobody") == []


def test_pages_of_a_list_show_each_key_once_also_those_of_the_same_time(store: KeyStore) -> None:
    for n in range(7):
        store.add(a_key(f"key0000{n}", name=f"bot {n}", created_at=NOON + n // 3 * HOUR))
    store.add(a_key("zz99zz99", tenant="lab"))
    pages, after = [], None
    while not pages or after:
        page = store.page("ward", PageRequest(limit=2, after=after))
        pages.append(page.items)
        after = page.after
    assert [len(items) for items in pages] == [2, 2, 2, 1]
    assert [key for items in pages for key in items] == store.list("ward")


def test_a_full_last_page_says_that_it_is_the_last(store: KeyStore) -> None:
    store.add(a_key())
    assert store.page(None, PageRequest(limit=1)).after is None
    assert store.page("nobody", PageRequest()).items == ()


@pytest.mark.parametrize("after", ["zz99zz99", "nobody", ""])
def test_a_cursor_of_another_list_is_refused_like_one_of_none(store: KeyStore, after: str) -> None:
    store.add(a_key())
    store.add(a_key("zz99zz99", tenant="lab"))
    with pytest.raises(InvalidRequest, match="after"):
        store.page("ward", PageRequest(after=after))


def test_an_owner_has_two_live_keys_and_no_third(store: KeyStore) -> None:
    first, second, third = (a_key(f"key0000{n}") for n in range(3))
    store.add(first)
    store.add(second)
    with pytest.raises(TooManyKeys, match=r"'ci-bot' of tenant 'ward' has 2 live keys.*Revoke.*rotate"):
        store.add(third)
    assert store.list(None) == [first, second]


@pytest.mark.parametrize("other", [{"tenant": "lab"}, {"name": "portal"}])
def test_other_owners_have_keys_of_their_own(store: KeyStore, other: dict[str, str]) -> None:
    for n in range(2):
        store.add(a_key(f"key0000{n}"))
    store.add(a_key("zz99zz99", **other))
    assert len(store.list(None)) == 3


@pytest.mark.parametrize("end", [{"revoked_at": NOON}, {"expires_at": NOON + HOUR}])
def test_keys_that_ended_make_room(store: KeyStore, end: dict[str, datetime]) -> None:
    for n in range(2):
        store.add(a_key(f"key0000{n}", **end))
    for n in range(2):
        store.add(a_key(f"new0000{n}", created_at=NOON + HOUR))
    with pytest.raises(TooManyKeys):
        store.add(a_key("new00002", created_at=NOON + HOUR))


def test_a_rotated_key_ends_when_told_and_its_successor_is_there(store: KeyStore) -> None:
    old, new = a_key("old00000"), a_key("new00000", created_at=NOON + HOUR)
    store.add(old)
    store.rotate(old.id, new, NOON + 2 * HOUR)
    assert store.list(None) == [replace(old, expires_at=NOON + 2 * HOUR), new]


def test_a_rotated_key_that_ends_earlier_anyway_still_does(store: KeyStore) -> None:
    store.add(a_key("old00000", expires_at=NOON + 2 * HOUR))
    store.rotate("old00000", a_key("new00000", created_at=NOON + HOUR), NOON + 9 * HOUR)
    assert store.get("old00000").expires_at == NOON + 2 * HOUR


def test_with_two_live_keys_the_named_one_is_replaced_at_once_or_nothing_changes(store: KeyStore) -> None:
    first, second = a_key("key00000"), a_key("key00001")
    store.add(first)
    store.add(second)
    third = a_key("key00002", created_at=NOON + HOUR)
    with pytest.raises(TooManyKeys):
        store.rotate(first.id, third, NOON + 2 * HOUR)
    assert store.list(None) == [first, second]
    store.rotate(first.id, third, NOON + HOUR)
    assert store.list(None) == [replace(first, expires_at=NOON + HOUR), second, third]


@pytest.mark.parametrize("end", [{"revoked_at": NOON}, {"expires_at": NOON + HOUR}])
def test_a_key_that_ended_is_not_rotated(store: KeyStore, end: dict[str, datetime]) -> None:
    store.add(a_key("old00000", **end))
    with pytest.raises(KeyEnded):
        store.rotate("old00000", a_key("new00000", created_at=NOON + HOUR), NOON + 2 * HOUR)
    assert store.list(None) == [a_key("old00000", **end)]


def test_rotating_an_unknown_key_adds_none(store: KeyStore) -> None:
    with pytest.raises(UnknownKey):
        store.rotate("nobody", a_key(), NOON)
    assert store.list(None) == []


def test_a_successor_that_is_a_duplicate_leaves_the_old_key_as_it_was(store: KeyStore) -> None:
    store.add(a_key())
    store.add(a_key("zz99zz99", tenant="lab"))
    with pytest.raises(DuplicateKey):
        store.rotate("ab12cd34", a_key("zz99zz99", created_at=NOON + HOUR), NOON + 2 * HOUR)
    assert store.get("ab12cd34") == a_key()


def test_of_many_keys_added_at_once_two_are_kept(store: KeyStore) -> None:
    outcomes = at_once(8, lambda n: store.add(a_key(f"key0000{n}")))
    assert sorted(outcomes) == ["TooManyKeys"] * 6 + ["done"] * 2
    assert len(store.list(None)) == 2


def test_of_many_rotations_at_once_one_is_done(store: KeyStore) -> None:
    store.add(a_key("old00000"))
    outcomes = at_once(
        8, lambda n: store.rotate("old00000", a_key(f"new0000{n}", created_at=NOON + HOUR), NOON + 2 * HOUR)
    )
    assert sorted(outcomes) == ["TooManyKeys"] * 7 + ["done"]
    assert len(store.list(None)) == 2


def at_once(number: int, act: Callable[[int], None]) -> list[str]:
    """What came of it, in threads that all begin together."""
    together = threading.Barrier(number, timeout=10)

    def outcome(n: int) -> str:
        together.wait()
        try:
            act(n)
        except TooManyKeys as error:
            return type(error).__name__
        return "done"

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(outcome, range(number)))


def test_a_key_gets_a_digest_under_another_pepper_unless_it_was_changed_meanwhile(store: KeyStore) -> None:
    key = a_key()
    store.add(key)
    store.rehash(key, KeyDigest("another"), 2)
    changed = replace(key, digest=KeyDigest("another"), pepper=2)
    assert (store.find(KeyDigest("another")), store.find(key.digest)) == (changed, None)
    store.revoke(key.id, NOON)
    store.rehash(changed, key.digest, 1)
    assert store.get(key.id) == replace(changed, revoked_at=NOON)
