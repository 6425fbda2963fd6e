"""The `UsageStore` in the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Date,
    Engine,
    Select,
    String,
    and_,
    cast,
    delete,
    func,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.dialects import postgresql, sqlite

from serving.tenants.ledger import Group, UsageQuery, UsageRecord, UsageRow, cursor_for, cursor_of, row_of
from serving.tenants.limits import Subject
from serving.tenants.paging import Page
from serving.tenants.sql.database import translated
from serving.tenants.sql.tables import usage_records

_PIECE = 1000
_SUBJECT = {"key": usage_records.c.key_id, "tenant": usage_records.c.tenant, "deployment": usage_records.c.deployment}


class SqlUsage:
    """The `UsageStore` that all gateways share."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
        self._insert = dialect.insert(usage_records).on_conflict_do_nothing()

    def add(self, records: Sequence[UsageRecord]) -> None:
        if records:
            with translated(), self._engine.begin() as connection:
                connection.execute(self._insert, [asdict(record) for record in records])

    def usage(self, query: UsageQuery) -> Page[UsageRow]:
        groups = [self._group(group).label(f"group_{group}") for group in query.by]
        row = usage_records.c
        sums: Select[Any] = select(
            *groups,
            func.count().label("requests"),
            func.sum(row.prompt_tokens).label("prompt_tokens"),
            func.sum(row.cached_tokens).label("cached_tokens"),
            func.sum(row.completion_tokens).label("completion_tokens"),
            func.sum(row.cost_micros).label("cost_micros"),
        )
        sums = _filtered(sums, query).group_by(*groups).order_by(*groups).limit(query.page.limit + 1)
        after = cursor_of(query)
        if after is not None:
            sums = sums.where(tuple_(*[self._group(group) for group in query.by]) > after)
        with translated(), self._engine.connect() as connection:
            found = [dict(row) for row in connection.execute(sums).mappings()]
        rows = tuple(_row(query.by, one) for one in found[: query.page.limit])
        last = found[query.page.limit - 1] if len(found) > query.page.limit else None
        return Page(rows, None if last is None else cursor_for([last[f"group_{group}"] for group in query.by]))

    def records(self, query: UsageQuery) -> Iterator[UsageRecord]:
        row, last = usage_records.c, None
        while True:
            piece = _filtered(select(usage_records), query).order_by(row.started_at, row.id).limit(_PIECE)
            if last is not None:
                piece = piece.where(
                    (row.started_at > last.started_at) | and_(row.started_at == last.started_at, row.id > last.id)
                )
            with translated(), self._engine.connect() as connection:
                found = [UsageRecord(**one) for one in connection.execute(piece).mappings()]
            yield from found
            if len(found) < _PIECE:
                return
            last = found[-1]

    def spent(self, subject: Subject, since: datetime) -> int:
        row = usage_records.c
        total = func.coalesce(func.sum(row.prompt_tokens + row.completion_tokens), 0)
        question = select(total).where(_SUBJECT[subject.scope] == subject.id, row.started_at >= since)
        with translated(), self._engine.connect() as connection:
            return int(connection.execute(question).scalar_one())

    def delete_before(self, time: datetime) -> int:
        with translated(), self._engine.begin() as connection:
            return connection.execute(delete(usage_records).where(usage_records.c.started_at < time)).rowcount

    def _group(self, group: Group) -> ColumnElement[Any]:
        """As text that sorts as the same bytes everywhere, like the cursor: PostgreSQL would follow its locale."""
        row = usage_records.c
        if group != "day":
            column: ColumnElement[Any] = {"tenant": row.tenant, "key": row.key_id, "deployment": row.deployment}[group]
            return column.collate("C") if self._engine.dialect.name == "postgresql" else column
        if self._engine.dialect.name == "postgresql":
            return cast(cast(func.timezone(literal_column("'UTC'"), row.started_at), Date), String).collate("C")
        return func.strftime("%Y-%m-%d", row.started_at)


def _filtered(question: Select[Any], query: UsageQuery) -> Select[Any]:
    row = usage_records.c
    for value, column in ((query.tenant, row.tenant), (query.key, row.key_id), (query.deployment, row.deployment)):
        if value is not None:
            question = question.where(column == value)
    if query.since is not None:
        question = question.where(row.started_at >= query.since)
    if query.until is not None:
        question = question.where(row.started_at < query.until)
    return question


def _row(by: Sequence[Group], found: dict[str, Any]) -> UsageRow:
    names = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens", "cost_micros")
    sums = {name: None if found[name] is None else int(found[name]) for name in names}
    return row_of({group: found[f"group_{group}"] for group in by}, **sums)
