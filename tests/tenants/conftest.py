"""A real PostgreSQL for the tests that need one, started by the run itself on a socket in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def _binaries() -> Path | None:
    """The folder with initdb: on the path, or where Debian keeps it."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """URL of an empty database. On a machine without PostgreSQL a skip that says so; in CI a failure."""
    binaries = _binaries()
    if binaries is None and os.environ.get("CI"):
        pytest.fail("PostgreSQL is not installed (Debian: postgresql), so its key store cannot be tested")
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql), so its key store is not tested here")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path has 107 characters at most
    # PostgreSQL refuses to run as root.
    other = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
    if other:
        shutil.chown(folder, "nobody", "nogroup")

    def run(program: str, *words: str) -> None:
        command = [*other, str(binaries / program), "-D", str(folder / "data"), *words]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)

    run("initdb", "--auth=trust", "--username=tests", "--no-sync")
    run("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", f"-k {folder} -c listen_addresses='' -c fsync=off")
    try:
        yield f"postgresql+psycopg://tests@/postgres?host={folder}"
    finally:
        run("pg_ctl", "stop", "-m", "immediate")
        shutil.rmtree(folder, ignore_errors=True)
