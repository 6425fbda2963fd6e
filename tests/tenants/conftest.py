"""The real servers that stores are tested on, each started once by the run itself.

On a machine that lacks one a skip says so; in CI it is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.tenants.postgresql_server import PostgresServer, binaries
from tests.tenants.redis_server import RedisServer, installed


def missing(package: str) -> None:
    """Skip what needs this Debian package; fail where nothing may be skipped."""
    problem = f"{package} is not installed (Debian: {package}), so what needs it is not tested here"
    if os.environ.get("CI"):
        pytest.fail(problem)
    pytest.skip(problem)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of an empty database."""
    found = binaries()
    if found is None:
        missing("postgresql")
    assert found is not None
    server = PostgresServer(found)
    try:
        server.start()
        yield server.url
    finally:
        server.remove()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One that runs; drills that take it away start their own."""
    if not installed():
        missing("redis-server")
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()
