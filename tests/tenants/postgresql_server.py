"""A real PostgreSQL on a socket in a folder of its own, which tests can take away and bring back."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path


def binaries() -> Path | None:
    """The folder with initdb: on the path, or where Debian keeps it."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)


class PostgresServer:
    """Start with `start`, end with `remove`. url: of its one, empty database."""

    def __init__(self, folder_of_binaries: Path) -> None:
        self._binaries = folder_of_binaries
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path has 107 characters at most
        # PostgreSQL refuses to run as root.
        self._other = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        if self._other:
            shutil.chown(self._folder, "nobody", "nogroup")
        self.url = f"postgresql+psycopg://tests@/postgres?host={self._folder}"
        self._run("initdb", "--auth=trust", "--username=tests", "--no-sync")

    def start(self) -> None:
        options = f"-k {self._folder} -c listen_addresses='' -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-l", str(self._folder / "log"), "-o", options)

    def kill(self) -> None:
        """Away at once, as in a crash; `start` recovers."""
        self._run("pg_ctl", "stop", "-m", "immediate")

    def remove(self) -> None:
        try:
            self.kill()
        except subprocess.CalledProcessError:
            pass  # it is down already
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *words: str) -> None:
        command = [*self._other, str(self._binaries / program), "-D", str(self._folder / "data"), *words]
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder)
