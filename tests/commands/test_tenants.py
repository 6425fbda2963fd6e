"""`clinserve tenants`, as an operator types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands.shell import Shell


@pytest.fixture
def shell(tmp_path: Path, installed: tuple[Path, str]) -> Shell:
    return Shell.at(tmp_path, installed[0])


def test_a_new_tenant_is_listed_and_shown_and_the_next_step_is_told(shell: Shell) -> None:
    said = shell.says("tenants", "create", "cardiology", "--name", "Cardiology [red]")
    assert "clinserve keys create --tenant cardiology" in said
    assert {tenant["id"]: tenant["name"] for tenant in shell.tells("tenants", "list")} == {
        "ward": "ward",
        "cardiology": "Cardiology [red]",
    }
    assert "Cardiology [red]" in shell.says("tenants", "list")
    assert "nothing is set" in shell.says("tenants", "show", "cardiology")


def test_a_tenant_is_shown_with_its_limits(shell: Shell) -> None:
    shell.says("limits", "set", "tenant", "ward", "--tokens-per-day", "500", "--requests-per-minute", "unlimited")
    assert "requests per minute unlimited, tokens per day 500" in shell.says("tenants", "show", "ward")
    shown = shell.tells("tenants", "show", "ward")
    assert (shown["id"], shown["status"], shown["limits"]["tokens_per_day"]) == ("ward", "active", 500)


def test_a_tenant_is_disabled_and_enabled_and_the_way_back_is_told(shell: Shell) -> None:
    assert "clinserve tenants enable ward" in shell.says("tenants", "disable", "ward")
    assert "disabled since" in shell.says("tenants", "show", "ward")
    shell.says("tenants", "enable", "ward")
    assert shell.tells("tenants", "show", "ward")["status"] == "active"


def test_responses_are_kept_for_a_time_that_is_shown_and_off_again(shell: Shell) -> None:
    assert "not kept" in shell.says("tenants", "show", "ward")
    assert "kept for 7 days" in shell.says("tenants", "keep-responses", "ward", "7d")
    assert shell.tells("tenants", "show", "ward")["keep_responses"] == 7 * 86400
    assert "kept for 7 days" in shell.says("tenants", "show", "ward")
    assert "not kept" in shell.says("tenants", "keep-responses", "ward", "off")
    assert shell.tells("tenants", "show", "ward")["keep_responses"] is None
    assert "a number and m, h, d or w" in shell.refuses("tenants", "keep-responses", "ward", "long")
    assert "60 to 34560000 seconds" in shell.refuses("tenants", "keep-responses", "ward", "99w")


def test_what_cannot_be_is_one_line(shell: Shell) -> None:
    assert "exists already" in shell.refuses("tenants", "create", "ward")
    assert "1 to 63 of a-z" in shell.refuses("tenants", "create", "No Slug")
    assert "cannot be disabled" in shell.refuses("tenants", "disable", "system")
    assert "'clinserve tenants create ID' makes one" in shell.refuses("tenants", "show", "nobody")
