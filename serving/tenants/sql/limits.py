"""The `LimitStore` in the database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from datetime import datetime

from sqlalchemy import ColumnElement, Engine, Row, and_, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from serving.tenants.keys import utcnow
from serving.tenants.limits import Limits, Subject
from serving.tenants.row_seal import COLUMN, NoRowSeals, RowSeals
from serving.tenants.sql.database import translated
from serving.tenants.sql.tables import limits as rows

_FIELDS = [field.name for field in fields(Limits)]
CLOSED = Limits(**dict.fromkeys(_FIELDS, 1))


class SqlLimits:
    """The `LimitStore` that all gateway replicas share."""

    def __init__(
        self,
        engine: Engine,
        seals: RowSeals = NoRowSeals(),  # noqa: B008  # it holds nothing
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        self._engine = engine
        self._seals = seals
        self._now = now

    def get(self, subject: Subject) -> Limits:
        with translated(), self._engine.connect() as connection:
            row = connection.execute(select(rows).where(_of(subject))).one_or_none()
        return Limits() if row is None else self._limits(row)

    def set(self, subject: Subject, limits: Limits) -> None:
        values = asdict(limits) | {"updated_at": self._now()}
        row = {"scope": subject.scope, "subject": subject.id} | values
        values |= {COLUMN: self._seals.of("limits", row)}
        insert = postgresql.insert if self._engine.dialect.name == "postgresql" else sqlite.insert
        put = insert(rows).values(scope=subject.scope, subject=subject.id, **values)
        with translated(), self._engine.begin() as connection:
            connection.execute(put.on_conflict_do_update(index_elements=[rows.c.scope, rows.c.subject], set_=values))

    def clear(self, subject: Subject) -> None:
        with translated(), self._engine.begin() as connection:
            connection.execute(delete(rows).where(_of(subject)))

    def all(self) -> Mapping[Subject, Limits]:
        with translated(), self._engine.connect() as connection:
            return {Subject(row.scope, row.subject): self._limits(row) for row in connection.execute(select(rows))}

    def _limits(self, row: Row[tuple[object, ...]]) -> Limits:
        """Of a row that is not as this product wrote it, next to nothing: its true limits are not known."""
        if not self._seals.holds("limits", dict(row._mapping)):
            return CLOSED
        return Limits(**{field: row._mapping[field] for field in _FIELDS})


def _of(subject: Subject) -> ColumnElement[bool]:
    return and_(rows.c.scope == subject.scope, rows.c.subject == subject.id)
