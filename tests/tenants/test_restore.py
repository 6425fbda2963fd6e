"""The runbook's backup, restore and rotation of the signing key, with its own commands, on real databases."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from typer.testing import CliRunner

from serving.cli import cli
from serving.settings import load
from tests.conftest import site_of
from tests.local import chat
from tests.tenants.postgresql_server import binaries

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"


class Hospital:
    """A machine on which the runbook's commands run: .clinserve, backup, and a database of its kind."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.folder = folder
        self.database = url
        self.configure()

    def configure(self) -> None:
        tree = {
            "server": {"runtime": "process"},
            "deployments": [{"name": "echo", "engine": {"kind": "echo"}}],
            **(
                {"database": {"url": self.database.replace("postgresql:", "postgresql+psycopg:")}}
                if self.database
                else {}
            ),
        }
        (self.folder / "config.yaml").write_text(yaml.safe_dump(tree))

    def clinserve(self, *words: str, status: int = 0) -> str:
        result = CliRunner().invoke(cli, ["--config", str(self.folder / "config.yaml"), *words])
        assert result.exit_code == status, result.output
        return result.stdout

    def drill(self, name: str) -> str:
        """Run a block of the runbook, line by line; what clinserve said."""
        block = re.search(rf"<!-- drill: {name} -->\n```\n(.*?)```", RUNBOOK.read_text(), re.DOTALL)
        assert block, name
        said = ""
        for line in block[1].splitlines():
            command, _, file = line.partition(" > ")
            if command.startswith("clinserve "):
                output = self.clinserve(*shlex.split(command)[1:])
                said += output
                if file:
                    (self.folder / file).write_text(output)
            else:
                tools = f"{binaries()}:{os.environ['PATH']}"
                environ = {"PATH": tools, "DATABASE": self.database or ""}
                subprocess.run(["bash", "-euc", line], cwd=self.folder, env=environ, check=True, capture_output=True)
        return said

    async def answers(self, key: str) -> int:
        """The status of a chat request with this key."""
        async with site_of(load(self.folder / "config.yaml", {}), key).client() as client:
            return (await client.post("/v1/chat/completions", json=chat())).status_code


@pytest.fixture(params=["sqlite", "postgresql"])
def hospital(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hospital]:
    monkeypatch.chdir(tmp_path)
    if request.param == "sqlite":
        if shutil.which("sqlite3") is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)("sqlite3 is not installed (Debian: sqlite3)")
        yield Hospital(tmp_path, None)
        return
    server = request.getfixturevalue("postgresql").replace("+psycopg", "")
    with psycopg.connect(server, autocommit=True) as administrator:
        for name in ("clinic", "restored"):
            administrator.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        try:
            yield Hospital(tmp_path, server.replace("/postgres?", "/clinic?"))
        finally:
            for name in ("clinic", "restored"):
                administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]


def kind_of(hospital: Hospital) -> str:
    return "postgresql" if hospital.database else "sqlite"


async def test_what_was_backed_up_comes_back_and_its_chain_verifies(hospital: Hospital) -> None:
    hospital.clinserve("tenants", "create", "ward")
    key = hospital.clinserve("keys", "create", "--tenant", "ward", "--name", "letters").strip()
    hospital.clinserve("limits", "set", "tenant", "ward", "--requests-per-minute", "60")
    assert await hospital.answers(key) == 200
    hospital.drill(f"back up {kind_of(hospital)}")
    hospital.clinserve("tenants", "create", "too-late")

    if hospital.database:
        hospital.database = hospital.database.replace("/clinic?", "/restored?")
        hospital.configure()  # the secrets are the cluster's and are still there
    else:
        shutil.rmtree(hospital.folder / ".clinserve")
        (hospital.folder / ".clinserve").mkdir()
    said = hospital.drill(f"restore {kind_of(hospital)}")

    assert ": valid" in said and " 0 records" not in said
    assert (hospital.folder / "backup" / "audit.pub").read_text() == hospital.clinserve("audit", "public-key")
    assert "too-late" not in hospital.clinserve("tenants", "list")
    assert "60" in hospital.clinserve("limits", "list")
    assert await hospital.answers(key) == 200
    hospital.clinserve("tenants", "create", "afterwards")
    assert ": valid" in hospital.clinserve("audit", "verify")


async def test_a_database_without_its_secrets_knows_no_key_and_does_not_verify(hospital: Hospital) -> None:
    key = hospital.clinserve("keys", "create", "--name", "letters").strip()
    shutil.rmtree(hospital.folder / ".clinserve" / "secrets")
    assert await hospital.answers(key) == 401
    assert "NOT VALID" in hospital.clinserve("audit", "verify", status=2)


def test_after_a_rotation_of_the_signing_key_old_and_new_records_verify_with_both_public_keys(
    hospital: Hospital,
) -> None:
    hospital.clinserve("tenants", "create", "before")
    old = hospital.clinserve("audit", "public-key").strip()
    (hospital.folder / ".clinserve" / "secrets" / "signing").unlink()  # it is made anew
    hospital.clinserve("tenants", "create", "after")
    new = hospital.clinserve("audit", "public-key").strip()
    assert old != new
    assert "NOT VALID" in hospital.clinserve("audit", "verify", status=2)
    assert ": valid" in hospital.clinserve("audit", "verify", "--public-key", old, "--public-key", new)


async def test_an_applications_key_is_rotated_without_a_gap(hospital: Hospital) -> None:
    old = hospital.clinserve("keys", "create", "--name", "letters").strip()
    new = hospital.clinserve("keys", "rotate", old.split(".")[0][:12], "--grace", "24h").strip()
    assert [await hospital.answers(key) for key in (old, new)] == [200, 200]
