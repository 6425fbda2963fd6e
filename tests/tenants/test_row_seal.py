"""Who can write to the database, and has not the pepper, cannot make himself a key, widen one, move or revive one."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Table, select, update

from serving.secret_versions import SecretVersion, VersionedSecret
from serving.tenants.callers import ROLES
from serving.tenants.key_store import KeyEnded
from serving.tenants.keys import Keyring
from serving.tenants.limits import Limits, Subject
from serving.tenants.registry import Tenant
from serving.tenants.row_seal import PepperSeals, RowNotGenuine
from serving.tenants.sql import SqlKeys, SqlLimits, SqlTenants, migrate
from serving.tenants.sql.sealing_rows import TABLES
from serving.tenants.sql.tables import api_keys, limits, tenants
from tests.conftest import OpenSite
from tests.gateway.administrators import hospital
from tests.local import chat, error_of
from tests.tenants.databases import SEALS, migrated

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WARD = Subject("tenant", "ward")
PEPPER = "a pepper for tests"


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """With one row of each table."""
    with migrated(request.param, request, tmp_path) as engine:
        Keyring(SqlKeys(engine, SEALS), PEPPER.encode()).mint("ward", "ci")
        SqlTenants(engine, SEALS).add(Tenant("ward", "Ward", NOON, disabled_at=NOON))
        SqlLimits(engine, SEALS).set(WARD, Limits(tokens_per_day=5))
        yield engine


def other_than(value: Any) -> Any:
    """A value that the column could hold as well."""
    if isinstance(value, datetime):
        return value + timedelta(seconds=1)
    return value + 1 if isinstance(value, int) else "2" if isinstance(value, str) and value.isdecimal() else f"{value}x"


FILLED: dict[str, Any] = {
    "expires_at": NOON, "revoked_at": NOON, "disabled_at": None, "deployments": '["echo"]',
    "networks": '["10.0.0.0/8"]',
    "keep_responses": 60, "roles": "auditor,inference,key_admin,operator", "requests_per_minute": 0,
    "tokens_per_minute": 0, "tokens_per_month": 0, "concurrent_requests": 0,
}  # fmt: skip
COLUMNS = [(table, column.name) for table in TABLES.values() for column in table.columns]


@pytest.mark.parametrize(("table", "column"), COLUMNS, ids=[f"{table.name}.{column}" for table, column in COLUMNS])
def test_no_column_can_be_changed(engine: Engine, table: Table, column: str) -> None:
    with engine.begin() as connection:
        row = connection.execute(select(table)).one()
        assert SEALS.holds(table.name, dict(row._mapping))  # type: ignore[arg-type]
        changed = FILLED.get(column, other_than(row._mapping[column]))
        connection.execute(update(table).values({column: changed}))
        tampered = dict(connection.execute(select(table)).one()._mapping)
    assert tampered[column] != row._mapping[column]
    assert not SEALS.holds(table.name, tampered)  # type: ignore[arg-type]


async def test_what_was_changed_is_refused(engine: Engine) -> None:
    keys, told = SqlKeys(engine, SEALS), list[tuple[str, str]]()
    keyring = Keyring(keys, PEPPER.encode())
    key, secret = keyring.mint("ward", "widened")
    with engine.begin() as connection:
        connection.execute(update(api_keys).values(roles=",".join(sorted(ROLES)), tenant="system"))
        connection.execute(update(tenants).values(disabled_at=None))
        connection.execute(update(limits).values(tokens_per_day=0))
    with pytest.raises(Exception, match="key"):
        await keyring.identify(secret.reveal())
    assert keys.get(key.id).status(NOON) == "refused"
    with pytest.raises(KeyEnded):
        keyring.rotate(key.id, timedelta(0))
    assert SqlTenants(engine, SEALS).get("ward").status == "refused"
    assert SqlLimits(engine, SEALS).get(WARD) == Limits(1, 1, 1, 1, 1)
    seals = PepperSeals(VersionedSecret.of(PEPPER), lambda table, id: told.append((table, id)))
    SqlLimits(engine, seals).all()
    assert told == [("limits", "tenant:ward")]


def test_it_can_be_ended_and_not_gone_on_from(engine: Engine) -> None:
    store = SqlTenants(engine, SEALS)
    with engine.begin() as connection:
        connection.execute(update(tenants).values(disabled_at=None, deployments=None, name="Mine"))
    for change in (
        lambda: store.enable("ward"),
        lambda: store.bound("ward", None, None),
        lambda: store.keep_responses("ward", 60),
    ):
        with pytest.raises(RowNotGenuine):
            change()
    assert store.disable("ward", NOON).status == "disabled"
    assert store.enable("ward").status == "active"


def test_a_row_of_another_place_does_not_fit(engine: Engine) -> None:
    """The seal of a strong key is of no use for a weak one."""
    keys = SqlKeys(engine, SEALS)
    strong, _ = Keyring(keys, PEPPER.encode()).mint("ward", "strong", roles=frozenset({"key_admin"}))
    weak, _ = Keyring(keys, PEPPER.encode()).mint("ward", "weak")
    with engine.begin() as connection:
        seal = connection.execute(select(api_keys.c.seal).where(api_keys.c.id == strong.id)).scalar_one()
        connection.execute(update(api_keys).where(api_keys.c.id == weak.id).values(seal=seal, roles="key_admin"))
    assert keys.get(weak.id).status(NOON) == "refused"


async def test_a_revoked_key_that_is_put_back_stays_revoked_in_every_process_that_saw_it(engine: Engine) -> None:
    """The old row holds with its old seal. Who has not seen it revoked, and doctor, look into the audit log."""
    refused: list[str] = []
    keyring = Keyring(SqlKeys(engine, SEALS), PEPPER.encode(), cache_seconds=0, on_refused=refused.append)
    key, secret = keyring.mint("ward", "once")
    with engine.begin() as connection:
        old = dict(connection.execute(select(api_keys).where(api_keys.c.id == key.id)).one()._mapping)
    keyring.revoke(key.id)
    with engine.begin() as connection:
        connection.execute(update(api_keys).where(api_keys.c.id == key.id).values(old))
    with pytest.raises(Exception, match="key"):
        await keyring.identify(secret.reveal())
    assert refused == [key.id]


def test_rows_of_before_there_were_seals_are_sealed_once_and_later_ones_without_are_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        for table in TABLES.values():
            connection.execute(update(table).values(seal=None))
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0007'")
        for table in TABLES.values():
            connection.exec_driver_sql(f"ALTER TABLE {table.name} DROP COLUMN seal")
        connection.exec_driver_sql("ALTER TABLE api_keys DROP COLUMN pepper")
    migrate(engine, SEALS)
    keys = SqlKeys(engine, SEALS)
    (key,) = keys.list(None)
    assert (key.genuine, SqlTenants(engine, SEALS).get("ward").genuine) == (True, True)
    assert SqlLimits(engine, SEALS).get(WARD) == Limits(tokens_per_day=5)
    with engine.begin() as connection:
        connection.execute(update(api_keys).values(seal=None))
    migrate(engine, SEALS)
    assert not keys.get(key.id).genuine


def test_a_row_is_of_the_pepper_that_sealed_it_for_as_long_as_that_is_live() -> None:
    old, new = SecretVersion(1, PEPPER), SecretVersion(2, "another", NOON)
    row = {"id": "ward", "name": "Ward", "created_at": NOON}
    sealed = row | {"seal": PepperSeals(VersionedSecret([old])).of("tenants", row)}
    both = PepperSeals(VersionedSecret([old, new]))
    assert both.holds("tenants", sealed) and both.of("tenants", row).startswith("2:")
    assert not PepperSeals(VersionedSecret([new])).holds("tenants", sealed)


@pytest.mark.parametrize("seal", [None, "", "1", "1:", ":", "x:y", "1:ü", "99:00", "-1:00", "1:" + "0" * 64])
def test_what_is_no_seal_does_not_hold(seal: str | None) -> None:
    assert not SEALS.holds("tenants", {"id": "ward", "name": "Ward", "seal": seal})


async def test_a_gateway_refuses_counts_and_audits_a_key_that_somebody_wrote_into_the_database(
    site: OpenSite,
) -> None:
    there = hospital(site)
    with there.office() as office:
        database = office.audit_store._engine  # type: ignore[attr-defined]  # the same file, as an intruder opens it
        with database.begin() as connection:
            connection.execute(update(api_keys).where(api_keys.c.name == "ward_user").values(roles="key_admin"))
    client = there.site.client(authorization=f"Bearer {there.keys['ward_user']}")
    error_of(await client.post("/v1/chat/completions", json=chat()), 401, "invalid_api_key")
    listed = (await there.ask("root", "GET", "/keys", tenant="ward")).json()["data"]
    assert [key["status"] for key in listed if key["name"] == "ward_user"] == ["refused"]
    metrics = (await there.site.client().get("/metrics")).text
    assert 'clinserve_refused_rows_total{table="api_keys"}' in metrics
