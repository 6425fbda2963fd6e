"""The `ResponseStore` in the database (tenants/sql has the tables)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, and_, delete, func, insert, or_, select, update

from serving.protocol.responses.answer import Status
from serving.responses.response import OPEN, Kept, TooManyResponses
from serving.tenants.sql.database import translated
from serving.tenants.sql.tables import responses


class SqlResponses:
    """The `ResponseStore` that all gateways share."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, kept: Kept, *, most: int) -> None:
        with translated(), self._engine.begin() as connection:
            of_tenant = select(func.count()).select_from(responses).where(responses.c.tenant == kept.tenant)
            if connection.execute(of_tenant).scalar_one() >= most:
                raise TooManyResponses(f"At most {most} responses of a tenant are kept. Delete some, or wait.")
            connection.execute(insert(responses), asdict(kept))

    def get(self, tenant: str, id: str) -> Kept | None:
        question = select(responses).where(responses.c.tenant == tenant, responses.c.id == id)
        with translated(), self._engine.connect() as connection:
            row = connection.execute(question).mappings().one_or_none()
        return None if row is None else Kept(**row)

    def remove(self, tenant: str, id: str) -> bool:
        return self._changed(delete(responses).where(responses.c.tenant == tenant, responses.c.id == id)) > 0

    def is_open(self, id: str) -> bool:
        question = select(responses.c.id).where(responses.c.id == id, responses.c.status.in_(OPEN))
        with translated(), self._engine.connect() as connection:
            return connection.execute(question).first() is not None

    def hold(self, id: str, until: datetime) -> bool:
        return self._changed(_open(id).values(status="in_progress", held_until=until)) > 0

    def end(self, id: str, status: Status, content: bytes | None = None) -> bool:
        values: dict[str, Any] = {"status": status, "held_until": None}
        if content is not None:
            values["content"] = content
        return self._changed(_open(id).values(**values)) > 0

    def fail_lost(self, now: datetime) -> int:
        lost = and_(responses.c.status.in_(OPEN), responses.c.held_until < now)
        return self._changed(update(responses).where(lost).values(status="failed", held_until=None))

    def sweep(self, now: datetime, oldest: Mapping[str, datetime], *, others: datetime) -> int:
        row = responses.c
        # A clause for each time, not for each tenant: SQLite's expressions are at most 1000 deep.
        tenants: dict[datetime, list[str]] = {}
        for tenant, before in oldest.items():
            tenants.setdefault(before, []).append(tenant)
        too_old = [and_(row.tenant.in_(names), row.created_at <= before) for before, names in tenants.items()]
        unkept = and_(row.tenant.not_in(list(oldest)), row.created_at <= others)
        return self._changed(delete(responses).where(or_(row.expires_at <= now, unkept, *too_old)))

    def _changed(self, statement: Any) -> int:
        with translated(), self._engine.begin() as connection:
            return int(connection.execute(statement).rowcount)


def _open(id: str) -> Any:
    return update(responses).where(responses.c.id == id, responses.c.status.in_(OPEN))
