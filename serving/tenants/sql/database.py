"""The database: opening it and bringing its schema up to date. SQLite for one node, PostgreSQL for several."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import alembic.command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import (
    Connection,
    Engine,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from serving.tenants.row_seal import NoRowSeals, RowSeals
from serving.tenants.sql.sealing_rows import seal_all
from serving.tenants.stores import NotStorable, StoreTooNew, StoreUnavailable

BUSY_SECONDS = 5  # how long a statement waits for a connection, or in SQLite for another process's write
MIGRATION_SECONDS = 120  # how long a process waits for the one that migrates
FIRST_SEALED = "0008"  # the schema from which on rows are sealed as they are written
MIGRATION_LOCK = 0x636C696E  # "clin": the PostgreSQL advisory lock of those who migrate
# A database that is cut off, not refusing, holds a thread for minutes by default, and a gateway has few. The URL's
# own values win: postgresql://...?connect_timeout=2
LIBPQ = {"connect_timeout": "5", "tcp_user_timeout": "5000"}


def open_database(url: str, password: str = "") -> Engine:
    """An engine for sqlite:///PATH or postgresql://...; connects on first use. The owner disposes of it.

    A missing SQLite file is made readable for its owner only, and so is its folder. Those that exist stay as they are.
    """
    parsed = make_url(url)
    if password:
        parsed = parsed.set(password=password)
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
    # Only a new one: to close a file that this process has open as a database would drop the locks of all its
    # connections (https://www.sqlite.org/howtocorrupt.html, 2.2), and did: another process then took the log away.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
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


def migrate(engine: Engine, seals: RowSeals = NoRowSeals()) -> None:  # noqa: B008  # it holds nothing
    """Bring the schema up to date. Any number of processes may do so at once: one works, the others wait.

    Rows of before there were seals get theirs (row_seal.py), once, when the database is brought to that schema.

    All in one transaction, so that a process killed half-way leaves the old schema. Raises StoreTooNew if a newer
    release migrated this database, StoreUnavailable if it cannot be reached.
    """
    folder = str(Path(__file__).parents[1] / "migrations")
    config = Config()
    config.set_main_option("script_location", folder.replace("%", "%%"))  # configparser expands a bare %
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    with translated(), engine.begin() as connection:
        _lock_for_migration(connection)
        current = set(MigrationContext.configure(connection).get_current_heads())
        unknown = current - known
        if unknown:
            where = engine.url.set(query={}).render_as_string()  # masks the password; a query may hold another
            raise StoreTooNew(
                f"The database {where} is at schema {', '.join(sorted(unknown))}, which this "
                "release of clinserve does not know. Run the newer release that migrated it, or restore a backup."
            )
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "head")
        if not current or min(current) < FIRST_SEALED:
            seal_all(connection, seals)


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
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads what it then changes. In SQLite a read that turns into a write fails when somebody else
    wrote in between, so this one writes from its beginning; Python's sqlite3 would begin at the first change.
    """
    with engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection


@contextmanager
def translated() -> Iterator[None]:
    """Any failure of the database but a broken rule is "away": refused, gone, locked, out of connections, damaged."""
    try:
        yield
    except IntegrityError:
        raise
    except DataError as error:
        raise NotStorable from error
    except (DBAPIError, PoolTimeout) as error:
        raise StoreUnavailable from error
