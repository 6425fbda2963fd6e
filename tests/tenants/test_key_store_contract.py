"""What any KeyStore promises, checked on each of them: memory, SQLite and a real PostgreSQL."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from serving.tenants.keys import ApiKey, DuplicateKey, KeyDigest, KeyStore, MemoryKeys, UnknownKey
from serving.tenants.sql import SqlKeys, migrate, open_database

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeys()
        return
    url = f"sqlite:///{tmp_path}/state.db" if request.param == "sqlite" else request.getfixturevalue("postgresql")
    engine = open_database(url)
    migrate(engine)
    yield SqlKeys(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE api_keys")
        connection.exec_driver_sql("DROP TABLE alembic_version")
    engine.dispose()


def a_key(id: str = "ab12cd34", tenant: str = "ward", **changes: datetime | None) -> ApiKey:
    return replace(
        ApiKey(
            id=id,
            tenant=tenant,
            name="ci-bot",
            prefix=f"csk_{id}",
            digest=KeyDigest(f"digest of {id}"),
            created_at=NOON,
            expires_at=None,
            revoked_at=None,
        ),
        **changes,  # type: ignore[arg-type]
    )


def test_a_key_comes_back_as_it_went_in(store: KeyStore) -> None:
    key = a_key(expires_at=NOON + timedelta(days=90))
    store.add(key)
    assert store.find(key.digest) == key


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


def test_keys_are_listed_oldest_first_for_one_tenant_or_all(store: KeyStore) -> None:
    late = a_key("aaaaaaaa", created_at=NOON + timedelta(hours=1))
    early = a_key("bbbbbbbb")
    other = a_key("cccccccc", tenant="lab", created_at=NOON - timedelta(hours=1))
    for key in (late, early, other):
        store.add(key)
    assert store.list("ward") == [early, late]
    assert store.list(None) == [other, early, late]
    assert store.list("nobody") == []
