"""The `TenantStore` in the database."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, Engine, Row, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from serving.tenants.callers import Network
from serving.tenants.paging import Page, PageRequest, bad_cursor
from serving.tenants.registry import Tenant, TenantExists, UnknownTenant
from serving.tenants.row_seal import COLUMN, NoRowSeals, RowNotGenuine, RowSeals
from serving.tenants.sql.columns import names_column, names_in, networks_column, networks_in
from serving.tenants.sql.database import translated, writing
from serving.tenants.sql.tables import tenants

_ALL = select(tenants).order_by(tenants.c.created_at, tenants.c.id)


class SqlTenants:
    """The `TenantStore` that all gateway replicas share."""

    def __init__(self, engine: Engine, seals: RowSeals = NoRowSeals()) -> None:  # noqa: B008  # it holds nothing
        self._engine = engine
        self._seals = seals

    def add(self, tenant: Tenant) -> None:
        values = {name: value for name, value in asdict(tenant).items() if name != "genuine"}
        values |= _bounds(tenant.deployments, tenant.networks)
        try:
            with translated(), self._engine.begin() as connection:
                connection.execute(insert(tenants).values(values | {COLUMN: self._seals.of("tenants", values)}))
        except IntegrityError:
            raise TenantExists from None

    def get(self, id: str) -> Tenant:
        with translated(), self._engine.connect() as connection:
            return self._tenant(_the_row(connection, id))

    def disable(self, id: str, at: datetime) -> Tenant:
        with translated(), writing(self._engine) as connection:
            row = _the_row(connection, id, to_change=True)
            # Also one that is not genuine: from there it can be looked through, bound anew and enabled.
            if row.disabled_at is None or not self._tenant(row).genuine:
                self._write(connection, row, {"disabled_at": row.disabled_at or at})
            return self._tenant(_the_row(connection, id))

    def enable(self, id: str) -> Tenant:
        return self._changed(id, disabled_at=None)

    def keep_responses(self, id: str, seconds: int | None) -> Tenant:
        return self._changed(id, keep_responses=seconds)

    def bound(self, id: str, deployments: frozenset[str] | None, networks: tuple[Network, ...] | None) -> Tenant:
        return self._changed(id, **_bounds(deployments, networks))

    def page(self, page: PageRequest) -> Page[Tenant]:
        query = _ALL.limit(page.limit + 1)  # one more says whether there is another page
        with translated(), self._engine.connect() as connection:
            if page.after is not None:
                last = connection.execute(select(tenants).where(tenants.c.id == page.after)).one_or_none()
                if last is None:
                    raise bad_cursor()
                query = query.where(tuple_(tenants.c.created_at, tenants.c.id) > tuple_(last.created_at, last.id))
            found = tuple(self._tenant(row) for row in connection.execute(query))
        items = found[: page.limit]
        return Page(items, items[-1].id if len(found) > page.limit else None)

    def all(self) -> tuple[Tenant, ...]:
        with translated(), self._engine.connect() as connection:
            return tuple(self._tenant(row) for row in connection.execute(_ALL))

    def _changed(self, id: str, **values: object) -> Tenant:
        with translated(), writing(self._engine) as connection:
            row = _the_row(connection, id, to_change=True)
            if not self._tenant(row).genuine:
                raise RowNotGenuine
            self._write(connection, row, values)
            return self._tenant(_the_row(connection, id))

    def _write(self, connection: Connection, row: Row[tuple[object, ...]], values: dict[str, object]) -> None:
        changed = {name: value for name, value in row._mapping.items() if name != COLUMN} | values
        seal = self._seals.of("tenants", changed)
        connection.execute(update(tenants).where(tenants.c.id == row.id).values(values | {COLUMN: seal}))

    def _tenant(self, row: Row[tuple[object, ...]]) -> Tenant:
        return _tenant(row, genuine=self._seals.holds("tenants", dict(row._mapping)))


def _the_row(connection: Connection, id: str, *, to_change: bool = False) -> Row[tuple[object, ...]]:
    question = select(tenants).where(tenants.c.id == id)
    row = connection.execute(question.with_for_update() if to_change else question).one_or_none()
    if row is None:
        raise UnknownTenant
    return row


def _tenant(row: Row[tuple[object, ...]], *, genuine: bool) -> Tenant:
    try:
        deployments, networks = names_in(row.deployments), networks_in(row.networks)
    except (ValueError, TypeError):  # somebody wrote something else there
        deployments, networks, genuine = frozenset(), (), False
    return Tenant(
        id=row.id,
        name=row.name,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        keep_responses=row.keep_responses,
        deployments=deployments,
        networks=networks,
        genuine=genuine,
    )


def _bounds(deployments: frozenset[str] | None, networks: tuple[Network, ...] | None) -> dict[str, str | None]:
    return {"deployments": names_column(deployments), "networks": networks_column(networks)}
