"""The database itself: its schema, its files, and what it says when it is away."""

import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from subprocess import PIPE

import alembic.command
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect

from serving.tenants import migrations
from serving.tenants.key_store import KeyDigest
from serving.tenants.keys import Keyring
from serving.tenants.registry import Tenant
from serving.tenants.sql import SqlKeys, SqlTenants, metadata, migrate, open_database
from serving.tenants.stores import StoreTooNew, StoreUnavailable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "clinserve.db"


@pytest.fixture
def engine(path: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{path}")
    yield engine
    engine.dispose()


def test_migrating_an_empty_database_makes_the_schema_that_the_code_expects(engine: Engine) -> None:
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    assert {i["name"] for i in inspect(engine).get_indexes("api_keys") if i["unique"]} == {
        "ix_api_keys_digest",
        "ix_api_keys_prefix",
    }


def test_migrating_again_keeps_the_rows(engine: Engine) -> None:
    migrate(engine)
    key, _ = Keyring(SqlKeys(engine), b"pepper").mint("ward", "ci-bot")
    migrate(engine)
    assert SqlKeys(engine).list(None) == [key]


def test_keys_of_the_first_release_go_on_and_their_tenants_are_registered(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0001")
        for id, at in (("key00001", "2026-03-02"), ("key00000", "2026-03-01")):
            connection.exec_driver_sql(
                "INSERT INTO api_keys (id, tenant, name, prefix, digest, created_at) VALUES (?, ?, ?, ?, ?, ?)",
                (id, "Ward 3", "ci-bot", f"csk_{id}", f"digest of {id}", f"{at} 12:00:00"),
            )
    migrate(engine)
    key = SqlKeys(engine).get("key00000")
    assert (key.roles, key.deployments, key.networks) == ({"inference"}, None, None)
    assert SqlTenants(engine).all() == (Tenant("Ward 3", "Ward 3", datetime(2026, 3, 1, 12, tzinfo=UTC)),)


def test_a_database_of_the_release_before_responses_goes_on(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0003")
        connection.exec_driver_sql(
            "INSERT INTO tenants (id, name, created_at) VALUES ('ward', 'W', '2026-03-01 12:00:00')"
        )
    migrate(engine)
    (tenant,) = SqlTenants(engine).all()
    assert (tenant.id, tenant.keep_responses) == ("ward", None)
    assert SqlTenants(engine).keep_responses("ward", 60).keep_responses == 60
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_processes_that_start_at_once_all_find_the_schema(path: Path) -> None:
    start = """if True:
        import multiprocessing, sys
        from serving.tenants.sql import SqlKeys, migrate, open_database

        def start():
            together.wait(10)
            engine = open_database(sys.argv[1])
            migrate(engine)
            assert SqlKeys(engine).list(None) == []

        fork = multiprocessing.get_context("fork")
        together = fork.Barrier(4)
        processes = [fork.Process(target=start) for _ in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        sys.exit(any(process.exitcode for process in processes))
    """
    run = subprocess.run([sys.executable, "-c", start, f"sqlite:///{path}"], stderr=PIPE, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (0, "")


def test_many_may_open_a_new_database_at_once(path: Path) -> None:
    failures: list[BaseException] = []

    def connect() -> None:
        engine = open_database(f"sqlite:///{path}")
        try:
            SqlKeys(engine).find(KeyDigest("x"))
        except StoreUnavailable as error:
            if "no such table" not in str(error.__cause__):
                failures.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=connect) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_database_of_a_newer_release_is_refused_and_left_alone(engine: Engine, path: Path) -> None:
    migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreTooNew, match=r"clinserve\.db is at schema 9999.*newer release"):
        migrate(engine)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() == "9999"


def test_only_the_owner_can_read_the_files(engine: Engine, path: Path) -> None:
    migrate(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1 FROM api_keys")
        modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    assert modes == {"clinserve.db": 0o600, "clinserve.db-wal": 0o600, "clinserve.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_no_file_holds_the_text_of_a_key(engine: Engine, path: Path) -> None:
    migrate(engine)
    key, secret = Keyring(SqlKeys(engine), b"pepper").mint("ward", "ci-bot")
    raw = b"".join(p.read_bytes() for p in path.parent.iterdir())
    assert key.prefix.encode() in raw
    assert secret.reveal()[13:].encode() not in raw
    assert secret.reveal()[13:45].encode() not in raw


def test_sqlite_writes_ahead_waits_for_others_and_checks_foreign_keys(engine: Engine) -> None:
    migrate(engine)
    with engine.connect() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "busy_timeout", "foreign_keys")
        ]
    assert pragmas == ["wal", 5000, 1]


def test_a_database_that_cannot_be_used_is_away_and_its_error_shows_no_digest(engine: Engine, path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)
    with pytest.raises(StoreUnavailable):
        migrate(engine)
    with pytest.raises(StoreUnavailable) as failure:
        SqlKeys(engine).find(KeyDigest("the digest"))
    assert "the digest" not in repr(failure.value.__cause__)


def test_a_migration_that_fails_half_way_leaves_nothing_behind(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("the power went")

    monkeypatch.setattr("alembic.op.create_index", fail)
    with pytest.raises(OSError, match="the power went"):
        migrate(engine)
    assert inspect(engine).get_table_names() == []


def test_a_postgresql_that_refuses_is_away() -> None:
    pytest.importorskip("psycopg", reason="no PostgreSQL driver is installed")
    engine = open_database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable):
        SqlKeys(engine).find(KeyDigest("x"))


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true", "mysql://host/db"])
def test_a_database_that_would_lose_keys_or_is_not_supported_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="PATH"):
        open_database(url)


def test_a_process_that_opens_its_database_again_keeps_its_locks_from_others(path: Path) -> None:
    visit = """if True:
        import sys
        from serving.tenants.keys import Keyring
        from serving.tenants.sql import SqlKeys, open_database
        engine = open_database(sys.argv[1])
        Keyring(SqlKeys(engine), b"pepper").mint("ward", sys.argv[2])
        engine.dispose()
    """
    url = f"sqlite:///{path}"
    engine = open_database(url)
    migrate(engine)
    with engine.connect():  # it holds SQLite's locks from here on, as a pool's connection does
        keyring = Keyring(SqlKeys(engine), b"pepper")
        keyring.mint("ward", "first")
        open_database(url).dispose()
        for name in ("second", "third"):  # a command, which is the last to close the file if our locks are gone
            subprocess.run([sys.executable, "-c", visit, url, name], check=True)
            keyring.mint("ward", f"after {name}")
    names = [key.name for key in SqlKeys(open_database(url)).list(None)]
    assert names == ["first", "second", "after second", "third", "after third"]
    engine.dispose()
