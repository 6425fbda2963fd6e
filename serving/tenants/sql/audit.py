"""The `AuditStore` in the database."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Select, and_, delete, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from serving.tenants.audit import Checkpoint, Head, Record, Unreadable
from serving.tenants.audit_store import AuditQuery, RecordConflict, cursor_for, place_of
from serving.tenants.paging import Page
from serving.tenants.sql.database import translated
from serving.tenants.sql.tables import audit_checkpoints, audit_records
from serving.tenants.sql.unchecked import unchecked

_PIECE = 1000


class SqlAudit:
    """The `AuditStore` of all processes, each with a chain of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._dialect = postgresql if engine.dialect.name == "postgresql" else sqlite

    def append(self, records: Sequence[Record], checkpoint: Checkpoint) -> None:
        insert, row = self._dialect.insert, audit_records.c
        with translated(), self._engine.begin() as connection:
            if records:
                rows = [asdict(record) for record in records]
                connection.execute(insert(audit_records).on_conflict_do_nothing(), rows)
                chain, first, last = records[0].chain, records[0].seq, records[-1].seq
                stored = select(row.seq, row.hash).where(row.chain == chain, row.seq.between(first, last))
                hashes = {seq: hash for seq, hash in connection.execute(stored)}
                if hashes != {record.seq: record.hash for record in records}:
                    raise RecordConflict(f"chain {chain}: another record stands between {first} and {last}")
            connection.execute(insert(audit_checkpoints).on_conflict_do_nothing(), asdict(checkpoint))

    def heads(self) -> list[Head]:
        row = audit_records.c
        last = select(row.chain, func.max(row.seq).label("seq")).group_by(row.chain).subquery()
        heads = select(row.chain, row.seq, row.hash).join(last, and_(row.chain == last.c.chain, row.seq == last.c.seq))
        with translated(), self._engine.connect() as connection:
            return sorted((Head(*found) for found in connection.execute(heads)), key=lambda head: head.chain)

    def records(self) -> Iterator[Record | Unreadable]:
        if self._dialect is sqlite:
            yield from unchecked(self._engine, audit_records, Record)
            return
        for found in self._all(select(audit_records)):
            yield Record(**found)

    def checkpoints(self) -> Iterator[Checkpoint | Unreadable]:
        if self._dialect is sqlite:
            yield from unchecked(self._engine, audit_checkpoints, Checkpoint)
            return
        for found in self._all(select(audit_checkpoints)):
            yield Checkpoint(**found)

    def _all(self, question: Select[Any]) -> Iterator[dict[str, Any]]:
        """By chain and place. Chains are digits and a-f, T and -: in every database's order the same."""
        row, last = question.selected_columns, None
        while True:
            piece = question.order_by(row.chain, row.seq).limit(_PIECE)
            if last is not None:
                piece = piece.where(tuple_(row.chain, row.seq) > (last["chain"], last["seq"]))
            with translated(), self._engine.connect() as connection:
                found = [dict(one) for one in connection.execute(piece).mappings()]
            yield from found
            if len(found) < _PIECE:
                return
            last = found[-1]

    def find(self, query: AuditQuery) -> Page[Record]:
        row = audit_records.c
        question = select(audit_records).order_by(row.at.desc(), row.chain.desc(), row.seq.desc())
        for value, column in ((query.tenant, row.tenant), (query.kind, row.kind), (query.request_id, row.request_id)):
            if value is not None:
                question = question.where(column == value)
        if query.digest is not None:
            question = question.where(row.body.contains(f'"{query.digest}"', autoescape=True))
        if query.since is not None:
            question = question.where(row.at >= query.since)
        if query.until is not None:
            question = question.where(row.at < query.until)
        if query.page.after is not None:
            at, chain, seq = place_of(query.page.after)
            earlier = (row.chain < chain) | and_(row.chain == chain, row.seq < seq)
            question = question.where((row.at < at) | and_(row.at == at, earlier))
        with translated(), self._engine.connect() as connection:
            found = [Record(**one) for one in connection.execute(question.limit(query.page.limit + 1)).mappings()]
        page = tuple(found[: query.page.limit])
        return Page(page, cursor_for(page[-1]) if len(found) > len(page) else None)

    def hashes_at(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], str]:
        row, found = audit_records.c, dict[tuple[str, int], str]()
        with translated(), self._engine.connect() as connection:
            for start in range(0, len(places), _PIECE // 2):
                here = tuple_(row.chain, row.seq).in_(places[start : start + _PIECE // 2])
                rows = connection.execute(select(row.chain, row.seq, row.hash).where(here))
                found |= {(chain, seq): hash for chain, seq, hash in rows}
        return found

    def after(self, chain: str, seq: int, limit: int) -> list[Record]:
        row = audit_records.c
        question = select(audit_records).where(row.chain == chain, row.seq > seq).order_by(row.seq).limit(limit)
        with translated(), self._engine.connect() as connection:
            return [Record(**found) for found in connection.execute(question).mappings()]

    def prunable(self, before: datetime) -> list[Head]:
        record, checkpoint = audit_records.c, audit_checkpoints.c
        young = (
            select(record.chain, func.min(record.seq).label("seq"))
            .where(record.at >= before)
            .group_by(record.chain)
            .subquery()
        )
        last = (
            select(checkpoint.chain, func.max(checkpoint.seq).label("seq"))
            .join(audit_records, and_(record.chain == checkpoint.chain, record.seq == checkpoint.seq))
            .outerjoin(young, young.c.chain == checkpoint.chain)
            .where(young.c.seq.is_(None) | (checkpoint.seq < young.c.seq))
            .group_by(checkpoint.chain)
            .subquery()
        )
        heads = select(checkpoint.chain, checkpoint.seq, checkpoint.hash).join(
            last, and_(checkpoint.chain == last.c.chain, checkpoint.seq == last.c.seq)
        )
        with translated(), self._engine.connect() as connection:
            return [Head(*found) for found in connection.execute(heads)]

    def prune(self, heads: Sequence[Head]) -> int:
        removed = 0
        with translated(), self._engine.begin() as connection:
            for head in heads:
                record, checkpoint = audit_records.c, audit_checkpoints.c
                old = delete(audit_records).where(record.chain == head.chain, record.seq <= head.seq)
                removed += connection.execute(old).rowcount
                before = delete(audit_checkpoints).where(checkpoint.chain == head.chain, checkpoint.seq < head.seq)
                connection.execute(before)
        return removed
