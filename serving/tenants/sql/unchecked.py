"""Rows of SQLite as they are. A column there holds whatever somebody wrote into it: a number for a text, a text that is
no UTF-8, a time that is none; SQLAlchemy and sqlite3 would raise in the middle of reading.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import Engine, Table

from serving.tenants.audit import Checkpoint, Record, Unreadable
from serving.tenants.sql.database import translated

Kind = TypeVar("Kind", Record, Checkpoint)


def unchecked(engine: Engine, table: Table, kind: type[Kind]) -> Iterator[Kind | Unreadable]:
    """All rows of a table of the audit log, by chain and place. Raises StoreUnavailable."""
    names = [column.name for column in table.columns]
    cells = [
        f'CASE typeof("{name}") WHEN \'integer\' THEN "{name}" END' if name == "seq" else _text(name) for name in names
    ]
    question = f'SELECT {", ".join(cells)} FROM "{table.name}" ORDER BY "chain", "seq"'  # noqa: S608  # our own names
    with translated(), engine.connect().execution_options(yield_per=1000) as connection:
        for row in connection.exec_driver_sql(question):
            yield _read(kind, dict(zip(names, row, strict=True)))


def _text(name: str) -> str:
    """The bytes of a text; what is none, a number or bytes, has none of ours."""
    return f'CASE typeof("{name}") WHEN \'text\' THEN CAST("{name}" AS BLOB) END'


def _read(kind: type[Kind], cells: dict[str, Any]) -> Kind | Unreadable:
    chain = (cells["chain"] or b"").decode(errors="replace")
    seq = cells["seq"] or 0
    try:
        values = {name: cell if name == "seq" else cell.decode() for name, cell in cells.items()}
        if values["seq"] is None:
            raise ValueError("no number")
        at = datetime.fromisoformat(values.pop("at"))
        return kind(**values, at=at.replace(tzinfo=UTC) if at.tzinfo is None else at)
    except (ValueError, AttributeError):
        what = "record" if kind is Record else "checkpoint"
        return Unreadable(chain, seq, f"changed: the {what} cannot be read")
