"""Migrated databases for the contract suites: SQLite in a file, or a real PostgreSQL, empty again afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine

from serving.secret_versions import VersionedSecret
from serving.tenants.row_seal import PepperSeals
from serving.tenants.sql import metadata, migrate, open_database

SEALS = PepperSeals(VersionedSecret.of("a pepper for tests"))


@contextmanager
def migrated(kind: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Engine]:
    """kind: "sqlite" or "postgresql"."""
    url = f"sqlite:///{folder}/state.db" if kind == "sqlite" else request.getfixturevalue("postgresql")
    engine = open_database(url)
    try:
        migrate(engine)
        yield engine
    finally:
        metadata.drop_all(engine)
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE alembic_version")
        engine.dispose()
