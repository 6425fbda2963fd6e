"""`clinserve doctor` on rows that say who may what, after somebody wrote into the database by hand."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from tests.commands.shell import Shell


@pytest.fixture
def shell(tmp_path: Path, installed: tuple[Path, str]) -> Shell:
    return Shell.at(tmp_path, installed[0])


def rights(shell: Shell) -> dict[str, str]:
    found = json.loads(shell.run("doctor", "--json").stdout)
    return next(finding for finding in found if finding["what"] == "rights")


def by_hand(shell: Shell, statement: str, *values: object) -> list[tuple[object, ...]]:
    with sqlite3.connect(shell.folder / "state" / "clinserve.db") as database:
        return database.execute(statement, values).fetchall()


def test_rows_of_this_product_are_well(shell: Shell) -> None:
    shell.says("keys", "create", "--tenant", "ward", "--name", "one")
    assert rights(shell)["state"] == "ok"


CHANGES = [
    "UPDATE api_keys SET roles = '[\"operator\"]'",
    "UPDATE api_keys SET seal = NULL",
    "UPDATE tenants SET name = 'x'",
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_row_that_was_changed_by_hand_is_named(shell: Shell, change: str) -> None:
    by_hand(shell, change)
    found = rights(shell)
    assert found["state"] == "missing" and "changed by something else" in found["detail"]


def test_a_row_that_was_put_back_as_it_was_before_its_revocation_is_named(shell: Shell) -> None:
    made = shell.tells("keys", "create", "--tenant", "ward", "--name", "one")
    before = by_hand(shell, "SELECT revoked_at, seal FROM api_keys WHERE id = ?", made["id"])
    shell.says("keys", "revoke", made["id"])
    assert rights(shell)["state"] == "ok"
    by_hand(shell, "UPDATE api_keys SET revoked_at = ?, seal = ? WHERE id = ?", *before[0], made["id"])
    found = rights(shell)
    assert found["state"] == "missing" and f"api_keys {made['id']}" in found["detail"]


def test_a_tenant_that_was_enabled_as_it_should_be_is_well(shell: Shell) -> None:
    for verb in ("disable", "enable"):
        shell.says("tenants", verb, "ward")
    assert rights(shell)["state"] == "ok"


def test_a_database_that_cannot_be_read_is_told_and_the_rest_as_well(shell: Shell) -> None:
    (shell.folder / "state" / "clinserve.db").write_bytes(b"no database" * 100)
    assert rights(shell)["state"] == "warning"
