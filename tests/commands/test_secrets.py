"""`clinserve secrets`: versions are added without a gap, listed without a value, retired when nothing needs them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from serving.app import build_keyring
from serving.cli import cli
from serving.secret_versions import SecretVersion, VersionedSecret, text_of
from serving.secrets import REQUIRED, Secrets
from tests.commands.shell import Shell

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def shell(tmp_path: Path, installed: tuple[Path, str]) -> Shell:
    shell = Shell.at(tmp_path, installed[0])
    Secrets.load(shell.settings.server.state_dir, {})  # as `serve` has made them
    return shell


def file_of(shell: Shell, name: str) -> Path:
    return shell.folder / "state" / "secrets" / name


def versions(shell: Shell, name: str) -> tuple[SecretVersion, ...]:
    return VersionedSecret.read(file_of(shell, name).read_text()).versions


def long_rotated(shell: Shell, name: str) -> None:
    """As if a second version had written since long ago."""
    (first,) = versions(shell, name)
    file_of(shell, name).write_text(text_of([first, SecretVersion(2, "cd" * 32, LONG_AGO)]))


@pytest.mark.parametrize("name", REQUIRED)
def test_rotating_adds_a_version_that_waits_and_keeps_the_old_one(shell: Shell, name: str) -> None:
    before = file_of(shell, name).read_text()
    done = shell.run("secrets", "rotate", name, "--in", "1h")
    assert done.exit_code == 0, done.output
    new, old = versions(shell, name)
    assert (old.text, old.number, new.number) == (before, 1, 2)
    assert new.writes_from and timedelta(minutes=55) < new.writes_from - datetime.now(UTC) < timedelta(hours=1)
    assert VersionedSecret.read(file_of(shell, name).read_text()).writing == old
    assert file_of(shell, name).stat().st_mode & 0o777 == 0o600
    assert new.text not in done.output and old.text not in done.output
    assert f"secrets retire {name}" in done.output


def test_a_dry_run_changes_nothing(shell: Shell) -> None:
    before = file_of(shell, "pepper").read_text()
    assert "would write" in shell.run("secrets", "rotate", "pepper", "--dry-run").output
    assert file_of(shell, "pepper").read_text() == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["rotate", "peper"], "There are: pepper"),
        (["rotate", "pepper", "--in", "1m"], "--in is at least"),
        (["retire", "pepper", "1"], "is in use"),
        (["retire", "pepper", "7"], "there is no version 7"),
    ],
)
def test_what_cannot_be_is_one_line(shell: Shell, words: list[str], says: str) -> None:
    done = shell.run("secrets", *words)
    assert done.exit_code == 1 and says in done.output and "Traceback" not in done.output


def test_a_second_rotation_waits_for_the_first(shell: Shell) -> None:
    shell.run("secrets", "rotate", "pepper")
    done = shell.run("secrets", "rotate", "pepper")
    assert done.exit_code == 1 and "version 2 waits" in done.output and len(versions(shell, "pepper")) == 2


def test_one_that_is_not_in_a_file_is_given_out_whole(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINSERVE_PEPPER", file_of(shell, "pepper").read_text())
    assert "Name an --output" in shell.run("secrets", "rotate", "pepper").output
    out = shell.folder / "pepper.new"
    shell.says("secrets", "rotate", "pepper", "--output", str(out))
    new, old = VersionedSecret.read(out.read_text()).versions
    assert (old.text, new.number) == (file_of(shell, "pepper").read_text(), 2)
    assert "File exists" in shell.run("secrets", "rotate", "pepper", "--output", str(out)).output


def test_the_list_shows_versions_and_what_needs_them_and_no_value(shell: Shell) -> None:
    long_rotated(shell, "pepper")
    printed = shell.says("secrets", "list", "--json")
    rows = {(row["secret"], row["version"]): row for row in json.loads(printed)}
    assert {name for name, _ in rows} == set(REQUIRED)
    assert rows["pepper", 1]["uses"]["live keys not used since"] >= 1
    assert (rows["pepper", 1]["state"], rows["pepper", 2]["state"]) == ("reads", "writes")
    values = [version.text for name in REQUIRED for version in versions(shell, name)]
    assert not any(value in printed + shell.says("secrets", "list") for value in values)


def test_an_old_pepper_goes_when_no_key_needs_it_and_not_before(shell: Shell) -> None:
    long_rotated(shell, "pepper")
    refused = shell.run("secrets", "retire", "pepper", "1")
    assert refused.exit_code == 1 and "live keys" in refused.output and len(versions(shell, "pepper")) == 2
    keyring = build_keyring(shell.settings)
    for key in keyring.list():
        keyring.revoke(key.id)
    assert shell.run("secrets", "retire", "pepper", "1").exit_code == 0
    assert [version.number for version in versions(shell, "pepper")] == [2]
    assert all(key.genuine for key in build_keyring(shell.settings).list())


def test_of_a_retired_signing_key_the_public_one_stays_and_verifies(shell: Shell) -> None:
    shell.says("tenants", "create", "before")
    long_rotated(shell, "signing")
    shell.says("tenants", "create", "after")
    shell.says("audit", "verify")
    assert len(shell.says("audit", "public-key").split()) == 2
    assert shell.run("secrets", "retire", "signing", "1").exit_code == 0
    assert versions(shell, "signing")[1].text.startswith("public:")
    shell.says("audit", "verify")


def test_each_change_is_audited(shell: Shell) -> None:
    shell.says("secrets", "rotate", "engine")
    told = shell.says("audit", "list", "--kind", "admin", "--json")
    assert "secret.rotate" in told and versions(shell, "engine")[0].text not in told


def test_a_new_secret_for_kubernetes_is_printed_as_ever() -> None:
    for words in ([], ["mine"], ["new", "mine"]):
        done = CliRunner().invoke(cli, ["secrets", *words])
        assert done.exit_code == 0, done.output
        assert yaml.safe_load(done.stdout)["metadata"]["name"] == (words[-1] if words else "clinserve")
