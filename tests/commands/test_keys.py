"""`clinserve keys`, as an operator types it."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving.app import build_keyring
from serving.commands.keys import keys_app
from serving.tenants.callers import Caller
from tests.commands.shell import Shell


@pytest.fixture
def shell(tmp_path: Path, installed: tuple[Path, str]) -> Shell:
    return Shell.at(tmp_path, installed[0])


async def holder(shell: Shell, key: str) -> Caller:
    return await build_keyring(shell.settings).identify(key.strip())


async def test_the_key_that_create_prints_works_and_stands_alone_on_stdout(shell: Shell) -> None:
    result = shell.run("keys", "create", "--name", "ci-bot")
    caller = await holder(shell, result.stdout)
    assert (caller.tenant, caller.key_name, caller.roles) == ("default", "ci-bot", {"inference"})
    assert result.stdout.count("\n") == 1 and "only time that the key is shown" in result.stderr


async def test_a_key_is_bound_as_it_was_asked(shell: Shell) -> None:
    words = "--role inference --role auditor --deployment echo --network 10.20.0.0/16 --network 2001:db8::/32"
    key = shell.says("keys", "create", "--tenant", "ward", "--name", "portal", *words.split())
    caller = await holder(shell, key)
    assert (caller.tenant, caller.roles, caller.deployments) == ("ward", {"inference", "auditor"}, {"echo"})
    assert [str(network) for network in caller.networks or ()] == ["10.20.0.0/16", "2001:db8::/32"]
    assert "auditor, inference on echo from 10.20.0.0/16, 2001:db8::/32" in shell.says("keys", "list")


async def test_the_systems_administrators_get_keys_before_anything_was_served(shell: Shell) -> None:
    key = shell.says("keys", "create", "--tenant", "system", "--role", "operator", "--name", "me")
    assert (await holder(shell, key)).is_system


def test_create_as_json_holds_the_key_and_what_it_is(shell: Shell) -> None:
    created = json.loads(shell.says("keys", "create", "--name", "ci-bot", "--expires-in", "90d", "--json"))
    assert created.pop("key").startswith(created["prefix"])
    left = datetime.fromisoformat(created["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89, hours=23) < left <= timedelta(days=90)
    assert created in shell.tells("keys", "list")


def test_a_duration_that_makes_no_sense_is_refused_in_one_line(shell: Shell) -> None:
    for text in ("90", "d", "0d", "-1d", "1.5h", "90days", "99999w", ""):
        assert "such as 90d" in shell.refuses("keys", "create", "--name", "ci-bot", "--expires-in", text)
    assert len(shell.tells("keys", "list")) == 1


def test_what_a_key_cannot_have_is_one_line(shell: Shell) -> None:
    create = ("keys", "create", "--name", "x")
    assert "'clinserve tenants create ID'" in shell.refuses(*create, "--tenant", "nobody")
    assert "There are: echo" in shell.refuses(*create, "--deployment", "nobody")
    assert "such as 10.20.0.0/16" in shell.refuses(*create, "--network", "10.0.0.1/8")


def test_list_shows_the_state_of_every_key_and_no_secret(shell: Shell) -> None:
    key = shell.says("keys", "create", "--name", "[red]bot[/red]").strip()
    (first, second) = shell.tells("keys", "list")
    shell.says("keys", "revoke", first["id"])
    lines = {line.split()[0]: line for line in shell.says("keys", "list").splitlines()}
    assert first["prefix"] in lines[first["id"]] and "revoked" in lines[first["id"]]
    assert "[red]bot[/red]" in lines[second["id"]] and "active" in lines[second["id"]]
    assert key[13:] not in shell.says("keys", "list") + shell.says("keys", "list", "--json")


def test_list_as_json_is_for_one_tenant_and_shows_no_digest(shell: Shell) -> None:
    shell.says("keys", "create", "--name", "other")
    (listed,) = shell.tells("keys", "list", "--tenant", "ward")
    assert listed.keys() == {
        "id", "prefix", "tenant", "name", "roles", "deployments", "networks",
        "created_at", "expires_at", "revoked_at", "status",
    }  # fmt: skip
    assert (listed["name"], listed["roles"], listed["deployments"]) == ("tests", ["inference"], None)


async def test_a_rotated_key_goes_on_for_its_grace(shell: Shell) -> None:
    old = shell.says("keys", "create", "--name", "ci-bot")
    new = shell.says("keys", "rotate", old[:12], "--grace", "2h")
    assert (await holder(shell, old)).key_name == (await holder(shell, new)).key_name == "ci-bot"
    ends = {key["prefix"]: key["expires_at"] for key in shell.tells("keys", "list")}
    left = datetime.fromisoformat(ends[old[:12]]) - datetime.now(UTC)
    assert timedelta(minutes=119) < left < timedelta(hours=2) and ends[new[:12]] is None


def test_a_key_that_is_rotated_without_grace_has_ended(shell: Shell) -> None:
    old = shell.says("keys", "create", "--name", "ci-bot")
    shell.says("keys", "rotate", old[:12], "--grace", "0")
    states = {key["prefix"]: key["status"] for key in shell.tells("keys", "list")}
    assert (states[old[:12]], sorted(states.values())) == ("expired", ["active", "active", "expired"])


def test_revoke_ends_the_key_and_names_it(shell: Shell) -> None:
    (key,) = shell.tells("keys", "list")
    said = shell.says("keys", "revoke", key["prefix"])
    assert said == f"Revoked {key['prefix']} ('tests' of tenant 'ward').\n"
    assert [key["status"] for key in shell.tells("keys", "list")] == ["revoked"]


def test_revoking_an_unknown_key_says_how_to_find_the_known_ones(shell: Shell) -> None:
    assert "'clinserve keys list'" in shell.refuses("keys", "revoke", "nobody")


def test_a_database_that_cannot_be_used_is_one_line_with_the_cause(shell: Shell) -> None:
    database = sqlite3.connect(shell.folder / "state" / "clinserve.db")
    database.execute("DROP TABLE api_keys")
    database.close()
    assert "database cannot be used: " in shell.refuses("keys", "list")


def test_help_opens_no_database() -> None:
    result = CliRunner().invoke(keys_app, ["create", "--help"])
    assert result.exit_code == 0 and "90d" in result.stdout
