"""`clinserve limits`, as an operator types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands.shell import Shell


@pytest.fixture
def shell(tmp_path: Path, installed: tuple[Path, str]) -> Shell:
    return Shell.at(tmp_path, installed[0])


def test_what_is_set_stays_when_something_else_is(shell: Shell) -> None:
    shell.says("limits", "set", "tenant", "ward", "--tokens-per-day", "500")
    said = shell.says("limits", "set", "tenant", "ward", "--requests-per-minute", "60", "--tokens-per-minute", "0")
    assert said == "tenant 'ward': requests per minute 60, tokens per minute unlimited, tokens per day 500\n"
    (row,) = shell.tells("limits", "list")
    assert row == {
        "scope": "tenant",
        "subject": "ward",
        "requests_per_minute": 60,
        "tokens_per_minute": 0,
        "tokens_per_day": 500,
        "tokens_per_month": None,
        "concurrent_requests": None,
    }


def test_one_limit_goes_back_to_the_default(shell: Shell) -> None:
    shell.says("limits", "set", "tenant", "ward", "--tokens-per-day", "500", "--tokens-per-month", "unlimited")
    shell.says("limits", "set", "tenant", "ward", "--tokens-per-day", "default")
    (row,) = shell.tells("limits", "list")
    assert (row["tokens_per_day"], row["tokens_per_month"]) == (None, 0)


def test_a_key_is_named_by_its_prefix_and_kept_by_its_id(shell: Shell) -> None:
    (key,) = shell.tells("keys", "list")
    for option in ("--tokens-per-day", "--concurrent-requests"):
        set_now = shell.tells("limits", "set", "key", key["prefix"], option, "5")
    assert (set_now["subject"], set_now["tokens_per_day"], set_now["concurrent_requests"]) == (key["id"], 5, 5)
    shell.says("limits", "clear", "key", key["prefix"])
    assert shell.tells("limits", "list") == []


def test_limits_are_listed_by_scope_and_by_tenant(shell: Shell) -> None:
    for scope, subject in (("tenant", "ward"), ("deployment", "echo")):
        shell.says("limits", "set", scope, subject, "--tokens-per-day", "unlimited")
    assert [row["subject"] for row in shell.tells("limits", "list", "--scope", "deployment")] == ["echo"]
    assert [row["subject"] for row in shell.tells("limits", "list", "--tenant", "ward")] == ["ward"]
    lines = shell.says("limits", "list").splitlines()
    assert len(lines) == 3 and "unlimited" in lines[1] and "tokens per day" in lines[0]


def test_a_limit_that_makes_no_sense_is_one_line(shell: Shell) -> None:
    for text in ("-1", "many", "1.5", "", "²"):
        error = shell.refuses("limits", "set", "tenant", "ward", f"--tokens-per-day={text}")
        assert "--tokens-per-day takes a number, 'unlimited' or 'default'" in error


def test_what_cannot_be_limited_is_one_line(shell: Shell) -> None:
    assert "Name a limit" in shell.refuses("limits", "set", "tenant", "ward")
    assert "There are: echo" in shell.refuses("limits", "set", "deployment", "nobody", "--tokens-per-day", "5")
    assert "'clinserve keys list'" in shell.refuses("limits", "clear", "key", "nobody")
