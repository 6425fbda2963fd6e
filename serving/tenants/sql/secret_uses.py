"""What in the database still needs a version of a secret, and how it is written anew under the one that writes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Engine, Table, and_, func, not_, or_, select, update

from serving.sealing import HEAD, Sealing, Unsealable, head_of
from serving.tenants.row_seal import COLUMN, RowSeals
from serving.tenants.sql.database import translated, writing
from serving.tenants.sql.sealing_rows import TABLES, rows_of, write_seal
from serving.tenants.sql.tables import (
    api_keys,
    audit_checkpoints,
    audit_records,
    batch_results,
    batches,
    files,
    responses,
)

_PIECE = 200
Uses = dict[str, int]
"""How many, by what; without those that there are none of."""


class SecretUses:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of(self, name: str, number: int, since: datetime | None, until: datetime | None, now: datetime) -> Uses:
        """name: of the secret. number: of the version, which wrote from `since` until `until`; None: always, still."""
        counted: dict[str, tuple[Table, ColumnElement[bool]]] = {}
        if name == "pepper":
            counted = self._pepper(number, now)
        elif name == "content":
            counted = self._content(number)
        elif name == "signing":
            counted["signatures in the audit log"] = audit_checkpoints, _within(audit_checkpoints.c.at, since, until)
        elif name == "audit":
            of_requests = and_(audit_records.c.kind == "inference", _within(audit_records.c.at, since, until))
            counted["requests in the audit log"] = audit_records, of_requests
        with translated(), self._engine.connect() as connection:
            found = {what: _count(connection, *where) for what, where in counted.items()}
        return {what: count for what, count in found.items() if count}

    def _pepper(self, number: int, now: datetime) -> dict[str, tuple[Table, ColumnElement[bool]]]:
        live = and_(api_keys.c.revoked_at.is_(None), or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > now))
        uses = {"live keys not used since": (api_keys, and_(api_keys.c.pepper == number, live))}
        for table in TABLES.values():
            uses[f"seals of {table.name}"] = (table, table.c[COLUMN].like(f"{number}:%"))
        return uses

    def _content(self, number: int) -> dict[str, tuple[Table, ColumnElement[bool]]]:
        return {
            "responses": (responses, _sealed_with(responses.c.content, number)),
            "results of batches": (batch_results, _sealed_with(batch_results.c.text, number)),
            "files": (files, _sealed_with(files.c.content_key, number)),
        }

    def reseal_rows(self, seals: RowSeals) -> int:
        """Rows of keys, tenants and limits that hold get a seal under the version that writes; how many."""
        count = 0
        with translated(), writing(self._engine) as connection:
            for name, row in rows_of(connection):
                if seals.holds(name, row):
                    write_seal(connection, name, row, seals)
                    count += 1
        return count

    def reseal_contents(self, sealing: Sealing, number: int) -> int:
        """Contents of this version are sealed under the one that writes, a piece at a time; how many. What does not
        open stays as it is, and counts as a use.
        """
        owner = select(batches.c.tenant).where(batches.c.id == batch_results.c.batch).scalar_subquery()
        line = [batch_results.c.batch, batch_results.c.line]
        places: list[tuple[Table, Column[Any], list[Column[Any]], ColumnElement[str], Callable[..., str]]] = [
            (responses, responses.c.content, [responses.c.id], responses.c.tenant, lambda row: f"response/{row.id}"),
            (files, files.c.content_key, [files.c.id], files.c.tenant, lambda row: f"file/{row.content}"),
            (batch_results, batch_results.c.text, line, owner, lambda row: f"{row.batch}/{row.line}"),
        ]
        return sum(self._reseal(sealing, number, *place) for place in places)

    def _reseal(
        self,
        sealing: Sealing,
        number: int,
        table: Table,
        column: Column[Any],
        key: list[Column[Any]],
        tenant: ColumnElement[str],
        place_of: Callable[..., str],
    ) -> int:
        count, after = 0, None
        while True:
            piece = (
                select(table, tenant.label("of_tenant"))
                .where(_sealed_with(column, number))
                .order_by(*key)
                .limit(_PIECE)
            )
            if after is not None:
                piece = piece.where(_beyond(key, after))
            with translated(), self._engine.connect() as connection:
                rows = connection.execute(piece).all()
            for row in rows:
                sealed, place = row._mapping[column.name], place_of(row)
                after = [row._mapping[one.name] for one in key]
                try:
                    text = sealing.open(sealed, tenant=row.of_tenant or "", place=place)
                except Unsealable:
                    continue
                anew = sealing.seal(text, tenant=row.of_tenant, place=place)
                this = [one == row._mapping[one.name] for one in key]
                with translated(), self._engine.begin() as connection:  # unless it was changed meanwhile
                    done = connection.execute(update(table).where(*this, column == sealed).values({column.name: anew}))
                    count += done.rowcount
            if len(rows) < _PIECE:
                return count


def _beyond(key: list[Column[Any]], after: list[object]) -> ColumnElement[bool]:
    """Rows after this one, in the order of the key."""
    clauses = [
        and_(*(one == value for one, value in zip(key[:n], after[:n], strict=True)), key[n] > after[n])
        for n in range(len(key))
    ]
    return or_(*clauses)


def _sealed_with(column: Column[bytes], number: int) -> ColumnElement[bool]:
    if number == 1:
        return and_(not_(func.substr(column, 1, len(HEAD)) == HEAD), func.length(column) > 0)
    head = head_of(number)
    return func.substr(column, 1, len(head)) == head


def _within(at: Column[datetime], since: datetime | None, until: datetime | None) -> ColumnElement[bool]:
    bounds = [*([at >= since] if since else []), *([at < until] if until else [])]
    return and_(True, *bounds)


def _count(connection: Connection, table: Table, where: ColumnElement[bool]) -> int:
    return int(connection.execute(select(func.count()).select_from(table).where(where)).scalar_one())
