"""Seals for rows that have none yet, or one under an older pepper; and what does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Table, select, update

from serving.tenants.row_seal import COLUMN, RowSeals, SealedTable
from serving.tenants.sql.tables import api_keys, limits, tenants

TABLES: dict[SealedTable, Table] = {"api_keys": api_keys, "tenants": tenants, "limits": limits}


def rows_of(connection: Connection) -> Iterator[tuple[SealedTable, dict[str, Any]]]:
    """Every row that says who may what. There are as many as somebody made by hand."""
    for name, table in TABLES.items():
        for row in connection.execute(select(table)).mappings().all():
            yield name, dict(row)


def seal_all(connection: Connection, seals: RowSeals) -> int:
    """Seal every row as it is, believing all of them; how many."""
    count = 0
    for name, row in rows_of(connection):
        write_seal(connection, name, row, seals)
        count += 1
    return count


def write_seal(connection: Connection, name: SealedTable, row: dict[str, Any], seals: RowSeals) -> None:
    table = TABLES[name]
    plain = {column: value for column, value in row.items() if column != COLUMN}
    this = [column == row[column.name] for column in table.primary_key.columns]
    connection.execute(update(table).where(*this).values({COLUMN: seals.of(name, plain)}))
