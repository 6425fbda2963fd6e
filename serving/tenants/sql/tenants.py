"""The `TenantStore` in the database."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, Engine, Row, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from serving.tenants.callers import Network
from serving.tenants.paging import Page, PageRequest, bad_cursor
from serving.tenants.registry import Tenant, TenantExists, UnknownTenant
from serving.tenants.sql.columns import names_column, names_in, networks_column, networks_in
from serving.tenants.sql.database import translated
from serving.tenants.sql.tables import tenants

_ALL = select(tenants).order_by(tenants.c.created_at, tenants.c.id)


class SqlTenants:
    """The `TenantStore` that all gateway replicas share."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, tenant: Tenant) -> None:
        try:
            with translated(), self._engine.begin() as connection:
                connection.execute(
                    insert(tenants).values(asdict(tenant) | _bounds(tenant.deployments, tenant.networks))
                )
        except IntegrityError:
            raise TenantExists from None

    def get(self, id: str) -> Tenant:
        with translated(), self._engine.connect() as connection:
            return _the_tenant(connection, id)

    def disable(self, id: str, at: datetime) -> Tenant:
        enabled = tenants.c.id == id, tenants.c.disabled_at.is_(None)
        with translated(), self._engine.begin() as connection:
            connection.execute(update(tenants).where(*enabled).values(disabled_at=at))
            return _the_tenant(connection, id)

    def enable(self, id: str) -> Tenant:
        with translated(), self._engine.begin() as connection:
            connection.execute(update(tenants).where(tenants.c.id == id).values(disabled_at=None))
            return _the_tenant(connection, id)

    def keep_responses(self, id: str, seconds: int | None) -> Tenant:
        with translated(), self._engine.begin() as connection:
            connection.execute(update(tenants).where(tenants.c.id == id).values(keep_responses=seconds))
            return _the_tenant(connection, id)

    def bound(self, id: str, deployments: frozenset[str] | None, networks: tuple[Network, ...] | None) -> Tenant:
        values = _bounds(deployments, networks)
        with translated(), self._engine.begin() as connection:
            connection.execute(update(tenants).where(tenants.c.id == id).values(**values))
            return _the_tenant(connection, id)

    def page(self, page: PageRequest) -> Page[Tenant]:
        query = _ALL.limit(page.limit + 1)  # one more says whether there is another page
        with translated(), self._engine.connect() as connection:
            if page.after is not None:
                last = connection.execute(select(tenants).where(tenants.c.id == page.after)).one_or_none()
                if last is None:
                    raise bad_cursor()
                query = query.where(tuple_(tenants.c.created_at, tenants.c.id) > tuple_(last.created_at, last.id))
            found = tuple(_tenant(row) for row in connection.execute(query))
        items = found[: page.limit]
        return Page(items, items[-1].id if len(found) > page.limit else None)

    def all(self) -> tuple[Tenant, ...]:
        with translated(), self._engine.connect() as connection:
            return tuple(_tenant(row) for row in connection.execute(_ALL))


def _the_tenant(connection: Connection, id: str) -> Tenant:
    row = connection.execute(select(tenants).where(tenants.c.id == id)).one_or_none()
    if row is None:
        raise UnknownTenant
    return _tenant(row)


def _tenant(row: Row[tuple[object, ...]]) -> Tenant:
    return Tenant(
        id=row.id,
        name=row.name,
        created_at=row.created_at,
        disabled_at=row.disabled_at,
        keep_responses=row.keep_responses,
        deployments=names_in(row.deployments),
        networks=networks_in(row.networks),
    )


def _bounds(deployments: frozenset[str] | None, networks: tuple[Network, ...] | None) -> dict[str, str | None]:
    return {"deployments": names_column(deployments), "networks": networks_column(networks)}
