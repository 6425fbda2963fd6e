"""The `KeyStore` in the database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Engine, Row, Select, func, insert, or_, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from serving.tenants.callers import ROLES
from serving.tenants.key_store import (
    LIVE_KEYS,
    ApiKey,
    DuplicateKey,
    KeyDigest,
    KeyEnded,
    KeyList,
    UnknownKey,
    too_many_keys,
)
from serving.tenants.paging import Page, PageRequest, bad_cursor
from serving.tenants.row_seal import COLUMN, NoRowSeals, RowSeals
from serving.tenants.sql.columns import names_column, names_in, networks_column, networks_in
from serving.tenants.sql.database import BUSY_SECONDS, translated, writing
from serving.tenants.sql.tables import api_keys


class SqlKeys:
    """The `KeyStore` that all gateway replicas share."""

    def __init__(self, engine: Engine, seals: RowSeals = NoRowSeals()) -> None:  # noqa: B008  # it holds nothing
        self._engine = engine
        self._seals = seals

    def add(self, key: ApiKey) -> None:
        with self._writing_for_owner(key) as connection:
            self._insert(connection, key)

    def rotate(self, old: str, new: ApiKey, ends_at: datetime) -> None:
        with self._writing_for_owner(new) as connection:
            row = connection.execute(select(api_keys).where(api_keys.c.id == old)).one_or_none()
            if row is None:
                raise UnknownKey
            key = self._key(row)
            if key.status(new.created_at) != "active":
                raise KeyEnded
            self._change(connection, row, expires_at=key.ending(ends_at).expires_at)
            self._insert(connection, new)

    def find(self, digest: KeyDigest) -> ApiKey | None:
        with translated(), self._engine.connect() as connection:
            row = connection.execute(select(api_keys).where(api_keys.c.digest == digest)).one_or_none()
        return None if row is None else self._key(row)

    def get(self, id_or_prefix: str) -> ApiKey:
        with translated(), self._engine.connect() as connection:
            return self._key(_the_row(connection, id_or_prefix))

    def revoke(self, id_or_prefix: str, at: datetime) -> ApiKey:
        with translated(), writing(self._engine) as connection:
            row = _the_row(connection, id_or_prefix, to_change=True)
            # Also one that is not genuine: that it is revoked is the product's word, and takes nothing but away.
            if row.revoked_at is None or not self._key(row).genuine:
                self._change(connection, row, revoked_at=at)
            return self._key(_the_row(connection, id_or_prefix))

    def rehash(self, key: ApiKey, digest: KeyDigest, pepper: int) -> None:
        with translated(), writing(self._engine) as connection:
            row = _the_row(connection, key.id, to_change=True)
            if self._key(row) == key:
                self._change(connection, row, digest=digest, pepper=pepper)

    def list(self, tenant: str | None) -> KeyList:
        with translated(), self._engine.connect() as connection:
            return [self._key(row) for row in connection.execute(_keys_of(tenant))]

    def page(self, tenant: str | None, page: PageRequest) -> Page[ApiKey]:
        keys = _keys_of(tenant).limit(page.limit + 1)  # one more says whether there is another page
        with translated(), self._engine.connect() as connection:
            if page.after is not None:
                last = connection.execute(_keys_of(tenant).where(api_keys.c.id == page.after)).one_or_none()
                if last is None:
                    raise bad_cursor()
                keys = keys.where(tuple_(api_keys.c.created_at, api_keys.c.id) > tuple_(last.created_at, last.id))
            found = tuple(self._key(row) for row in connection.execute(keys))
        items = found[: page.limit]
        return Page(items, items[-1].id if len(found) > page.limit else None)

    @contextmanager
    def _writing_for_owner(self, key: ApiKey) -> Iterator[Connection]:
        """A transaction in which nobody else adds keys of this owner, so that counting them and adding one is safe."""
        try:
            with translated(), writing(self._engine) as connection:
                if connection.dialect.name == "postgresql":
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_SECONDS}s'")
                    connection.execute(select(func.pg_advisory_xact_lock(_owner_lock(key))))
                yield connection
        except IntegrityError:
            raise DuplicateKey from None

    def _insert(self, connection: Connection, key: ApiKey) -> None:
        live = select(func.count()).where(
            api_keys.c.tenant == key.tenant,
            api_keys.c.name == key.name,
            api_keys.c.revoked_at.is_(None),
            or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > key.created_at),
        )
        if connection.execute(live).scalar_one() >= LIVE_KEYS:
            raise too_many_keys(key)
        values = {name: value for name, value in asdict(key).items() if name != "genuine"} | _rights(key)
        connection.execute(insert(api_keys).values(values | {COLUMN: self._seals.of("api_keys", values)}))

    def _change(self, connection: Connection, row: Row[tuple[object, ...]], **values: object) -> None:
        changed = {name: value for name, value in row._mapping.items() if name != COLUMN} | values
        seal = self._seals.of("api_keys", changed)
        connection.execute(update(api_keys).where(api_keys.c.id == row.id).values(values | {COLUMN: seal}))

    def _key(self, row: Row[tuple[object, ...]]) -> ApiKey:
        return _key(row, genuine=self._seals.holds("api_keys", dict(row._mapping)))


def _owner_lock(key: ApiKey) -> int:
    """The advisory lock of an owner: 64 bits of a hash. Two owners that share one wait for each other, no more."""
    owner = f"{key.tenant}\n{key.name}".encode()  # neither holds a line break
    return int.from_bytes(hashlib.sha256(owner).digest()[:8], signed=True)


def _keys_of(tenant: str | None) -> Select[tuple[object, ...]]:
    keys = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
    return keys if tenant is None else keys.where(api_keys.c.tenant == tenant)


def _named(id_or_prefix: str) -> ColumnElement[bool]:
    return or_(api_keys.c.id == id_or_prefix, api_keys.c.prefix == id_or_prefix)


def _the_row(connection: Connection, id_or_prefix: str, *, to_change: bool = False) -> Row[tuple[object, ...]]:
    question = select(api_keys).where(_named(id_or_prefix))
    row = connection.execute(question.with_for_update() if to_change else question).one_or_none()
    if row is None:
        raise UnknownKey
    return row


def _rights(key: ApiKey) -> dict[str, str | None]:
    """Roles and bounds as their columns hold them."""
    return {
        "roles": ",".join(sorted(key.roles)),
        "deployments": names_column(key.deployments),
        "networks": networks_column(key.networks),
    }


def _key(row: Row[tuple[object, ...]], *, genuine: bool) -> ApiKey:
    roles = row.roles.split(",")
    try:
        deployments, networks = names_in(row.deployments), networks_in(row.networks)
    except (ValueError, TypeError):  # somebody wrote something else there
        deployments, networks, genuine = frozenset(), (), False
    return ApiKey(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        prefix=row.prefix,
        digest=KeyDigest(row.digest),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        roles=frozenset(role for role in ROLES if role in roles),
        deployments=deployments,
        networks=networks,
        pepper=row.pepper,
        genuine=genuine,
    )
