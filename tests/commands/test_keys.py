"""`clinserve keys`, as an operator types it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from serving.commands.keys import keys_app
from serving.tenants.keys import Keyring, MemoryKeys, StoreUnavailable
from serving.tenants.sql import SqlKeys, open_database


@pytest.fixture
def keyring() -> Keyring:
    return Keyring(MemoryKeys(), b"pepper")


def run(keyring: Keyring, *arguments: str) -> Result:
    root = typer.Typer()
    root.add_typer(keys_app, name="keys")

    @root.callback()
    def set_up(ctx: typer.Context) -> None:
        ctx.obj = lambda: keyring

    return CliRunner().invoke(root, ["keys", *arguments])


def one_line(result: Result) -> str:
    """The error, when it is one as promised."""
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    return result.stderr


async def test_the_key_that_create_prints_works_and_stands_alone_on_stdout(keyring: Keyring) -> None:
    result = run(keyring, "create", "--name", "ci-bot", "--tenant", "ward")
    assert result.exit_code == 0
    assert (await keyring.identify(result.stdout.removesuffix("\n"))).tenant == "ward"
    assert "only time that the key is shown" in result.stderr


async def test_create_as_json_holds_the_key_and_what_it_is(keyring: Keyring) -> None:
    result = run(keyring, "create", "--name", "ci-bot", "--expires-in", "90d", "--json")
    created = json.loads(result.stdout)
    assert (await keyring.identify(created.pop("key"))).key_id == created["id"]
    left = datetime.fromisoformat(created["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89, hours=23) < left <= timedelta(days=90)
    assert (created["tenant"], created["name"], created["status"]) == ("default", "ci-bot", "active")


@pytest.mark.parametrize("text", ["90", "d", "0d", "-1d", "1.5h", "90days", "99999w", ""])
def test_a_duration_that_makes_no_sense_is_refused_in_one_line(keyring: Keyring, text: str) -> None:
    assert "such as 90d" in one_line(run(keyring, "create", "--name", "ci-bot", "--expires-in", text))
    assert keyring.list() == []


def test_list_shows_the_state_of_every_key_and_no_secret(keyring: Keyring) -> None:
    active, secret = keyring.mint("ward", "[red]bot[/red]")
    revoked, _ = keyring.mint("lab", "old")
    keyring.revoke(revoked.id)
    result = run(keyring, "list")
    lines = {line.split()[0]: line for line in result.stdout.splitlines()}
    assert active.prefix in lines[active.id] and "active" in lines[active.id]
    assert revoked.prefix in lines[revoked.id] and "revoked" in lines[revoked.id]
    assert secret.reveal()[13:] not in result.output


def test_list_as_json_is_for_one_tenant_and_shows_no_digest(keyring: Keyring) -> None:
    key, _ = keyring.mint("ward", "[red]bot[/red]")
    keyring.mint("lab", "other")
    (listed,) = json.loads(run(keyring, "list", "--tenant", "ward", "--json").stdout)
    assert listed == {
        "id": key.id,
        "prefix": key.prefix,
        "tenant": "ward",
        "name": "[red]bot[/red]",
        "created_at": key.created_at.isoformat(),
        "expires_at": None,
        "revoked_at": None,
        "status": "active",
    }


def test_revoke_ends_the_key_and_names_it(keyring: Keyring) -> None:
    key, _ = keyring.mint("ward", "ci-bot")
    result = run(keyring, "revoke", key.prefix)
    assert result.stdout == f"Revoked {key.prefix} ('ci-bot' of tenant 'ward').\n"
    assert [k.status(datetime.now(UTC)) for k in keyring.list()] == ["revoked"]


def test_revoking_an_unknown_key_says_how_to_find_the_known_ones(keyring: Keyring) -> None:
    assert "'clinserve keys list'" in one_line(run(keyring, "revoke", "nobody"))


def test_a_database_that_is_away_is_one_line_with_the_cause(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/never_migrated.db")
    error = one_line(run(Keyring(SqlKeys(engine), b"pepper"), "list"))
    assert "no such table: api_keys" in error
    engine.dispose()


def test_a_store_that_is_away_without_a_cause_is_one_line_too(keyring: Keyring) -> None:
    class Away(MemoryKeys):
        def list(self, tenant: str | None) -> list:  # type: ignore[type-arg]
            raise StoreUnavailable

    assert "database with the keys" in one_line(run(Keyring(Away(), b"pepper"), "list"))


def test_help_opens_no_keyring() -> None:
    result = CliRunner().invoke(keys_app, ["create", "--help"])
    assert result.exit_code == 0
    assert "90d" in result.stdout
