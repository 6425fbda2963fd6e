"""The database: opening it, bringing its schema up to date, and the keys in it. Alone imports SQLAlchemy and Alembic.

SQLite for one node, PostgreSQL for several. Other modules see `KeyStore` and the errors of keys.py.
"""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import alembic.command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Index,
    MetaData,
    Row,
    String,
    Table,
    create_engine,
    event,
    insert,
    make_url,
    or_,
    select,
    update,
)
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.types import TypeDecorator

from serving.tenants.keys import ApiKey, DuplicateKey, KeyDigest, KeyList, StoreTooNew, StoreUnavailable, UnknownKey

BUSY_SECONDS = 5  # how long a statement waits for a connection, or in SQLite for another process's write
MIGRATION_SECONDS = 120  # how long a process waits for the one that migrates
MIGRATION_LOCK = 0x636C696E  # "clin": the PostgreSQL advisory lock of those who migrate
# A database that is cut off, not refusing, holds a thread for minutes by default, and a gateway has few. The URL's
# own values win: postgresql://...?connect_timeout=2
LIBPQ = {"connect_timeout": "5", "tcp_user_timeout": "5000"}


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime, in UTC both ways. SQLite keeps no zone and would give naive times back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# What the code expects. migrations/ makes it so; a test compares the two.
metadata = MetaData()
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("tenant", String, nullable=False, index=True),
    Column("name", String, nullable=False),
    Column("prefix", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
    Index("ix_api_keys_prefix", "prefix", unique=True),
    Index("ix_api_keys_digest", "digest", unique=True),
)


def open_database(url: str) -> Engine:
    """An engine for sqlite:///PATH or postgresql://...; connects on first use. The owner disposes of it.

    A missing SQLite file is made readable for its owner only, and so is its folder. Those that exist stay as they are.
    """
    parsed = make_url(url)
    backend = parsed.get_backend_name()
    if backend == "postgresql":
        if parsed.get_driver_name() in ("psycopg", "psycopg2"):
            parsed = parsed.update_query_dict({**LIBPQ, **parsed.query})
        # hide_parameters: an error's text may reach a log, and rows hold digests
        return create_engine(parsed, pool_pre_ping=True, pool_timeout=BUSY_SECONDS, hide_parameters=True)
    if backend != "sqlite":
        raise ValueError(f"the database is sqlite:///PATH or postgresql://..., not {backend}")
    if not parsed.database or parsed.database.startswith((":memory:", "file:")):
        raise ValueError("SQLite needs the path of a file, sqlite:///PATH: in memory, each thread has its own database")
    path = Path(parsed.database)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # We make the file, since SQLite would make it readable for all. The -wal and -shm beside it take over its mode.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    engine = create_engine(
        parsed, pool_timeout=BUSY_SECONDS, hide_parameters=True, connect_args={"timeout": BUSY_SECONDS}
    )
    event.listen(engine, "connect", _set_up_sqlite)
    return engine


def _set_up_sqlite(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    _use_wal(cursor)
    cursor.execute("PRAGMA foreign_keys = ON")  # off by default, and per connection
    cursor.close()


def _use_wal(cursor: DBAPICursor) -> None:
    """With a write-ahead log, who reads does not wait for who writes.

    Only the first connection to a new file changes anything, and that change does not heed SQLite's busy timeout: of
    several at once, some would get "database is locked" at once. So these ask again.
    """
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def migrate(engine: Engine) -> None:
    """Bring the schema up to date. Any number of processes may do so at once: one works, the others wait.

    All in one transaction, so that a process killed half-way leaves the old schema. Raises StoreTooNew if a newer
    release migrated this database, StoreUnavailable if it cannot be reached.
    """
    folder = str(Path(__file__).parent / "migrations")
    config = Config()
    config.set_main_option("script_location", folder.replace("%", "%%"))  # configparser expands a bare %
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with _translated(), engine.begin() as connection:
        _lock_for_migration(connection)
        unknown = set(MigrationContext.configure(connection).get_current_heads()) - known
        if unknown:
            where = engine.url.set(query={}).render_as_string()  # masks the password; a query may hold another
            raise StoreTooNew(
                f"The database {where} is at schema {', '.join(sorted(unknown))}, which this "
                "release of clinserve does not know. Run the newer release that migrated it, or restore a backup."
            )
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")


def _lock_for_migration(connection: Connection) -> None:
    """Wait until nobody else migrates; the end of the transaction lets the next one in."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{MIGRATION_SECONDS}s'")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    else:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {MIGRATION_SECONDS * 1000}")
        connection.exec_driver_sql("BEGIN IMMEDIATE")  # Python's sqlite3 begins none before DDL
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")  # the pool keeps this connection


@contextmanager
def _translated() -> Iterator[None]:
    """Any failure of the database but a broken rule is "away": refused, gone, locked, out of connections, damaged."""
    try:
        yield
    except IntegrityError:
        raise
    except (DBAPIError, PoolTimeout) as error:
        raise StoreUnavailable from error


class SqlKeys:
    """The `KeyStore` that all gateway replicas share."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, key: ApiKey) -> None:
        try:
            with _translated(), self._engine.begin() as connection:
                connection.execute(insert(api_keys).values(asdict(key)))
        except IntegrityError:
            raise DuplicateKey from None

    def find(self, digest: KeyDigest) -> ApiKey | None:
        with _translated(), self._engine.connect() as connection:
            row = connection.execute(select(api_keys).where(api_keys.c.digest == digest)).one_or_none()
        return None if row is None else _key(row)

    def revoke(self, id_or_prefix: str, at: datetime) -> ApiKey:
        named = or_(api_keys.c.id == id_or_prefix, api_keys.c.prefix == id_or_prefix)
        with _translated(), self._engine.begin() as connection:
            # Write first: in SQLite, a read that turns into a write fails when somebody else wrote in between.
            connection.execute(update(api_keys).where(named, api_keys.c.revoked_at.is_(None)).values(revoked_at=at))
            row = connection.execute(select(api_keys).where(named)).one_or_none()
        if row is None:
            raise UnknownKey
        return _key(row)

    def list(self, tenant: str | None) -> KeyList:
        keys = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
        if tenant is not None:
            keys = keys.where(api_keys.c.tenant == tenant)
        with _translated(), self._engine.connect() as connection:
            return [_key(row) for row in connection.execute(keys)]


def _key(row: Row[tuple[object, ...]]) -> ApiKey:
    return ApiKey(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        prefix=row.prefix,
        digest=KeyDigest(row.digest),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
