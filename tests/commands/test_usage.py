"""`clinserve usage`, as an operator types it."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from serving.commands.plot import bar
from serving.tenants.ledger import UsageRecord
from tests.commands.shell import Shell

NOW = datetime.now(UTC)
REQUEST = UsageRecord(
    id="req_1",
    started_at=NOW,
    tenant="ward",
    key_id="ab12cd34",
    key_name="portal",
    deployment="echo",
    revision="r1",
    operation="chat",
    stream=False,
    outcome="ok",
    prompt_tokens=10,
    cached_tokens=4,
    completion_tokens=5,
    cost_micros=1_500_000,
    first_token=None,
    duration=0.5,
)


@pytest.fixture
def shell(tmp_path: Path, installed: tuple[Path, str]) -> Shell:
    """Two requests of today, one of another key, and one of 50 days ago."""
    shell = Shell.at(tmp_path, installed[0])
    records = [
        REQUEST,
        replace(REQUEST, id="req_2", tenant="lab", cost_micros=None),
        replace(REQUEST, id="req_3", key_id="zz99zz99"),
        replace(REQUEST, id="req_4", started_at=NOW - timedelta(days=50)),
    ]
    with shell.office() as office:
        office.usage_store.add(records)
    return shell


def test_without_a_word_it_is_by_day_and_deployment_for_the_last_days(shell: Shell) -> None:
    header, row = shell.says("usage").splitlines()
    assert header.split() == ["day", "deployment", "requests", "prompt", "cached", "completion", "total", "cost"]
    assert row.split() == [f"{NOW:%Y-%m-%d}", "echo", "3", "30", "12", "15", "45", "3.0000"]


def test_it_is_summed_filtered_and_bounded_as_asked(shell: Shell) -> None:
    def sums(*words: str) -> list[tuple[str, int]]:
        return [(row["tenant"], row["requests"]) for row in shell.tells("usage", "--by", "tenant", *words)]

    assert sums() == [("lab", 1), ("ward", 2)]
    assert sums("--from", "2020-01-01") == [("lab", 1), ("ward", 3)]
    assert sums("--from", "2020-01-01", "--to", f"{NOW - timedelta(days=30):%Y-%m-%d}") == [("ward", 1)]
    assert sums("--tenant", "lab") == [("lab", 1)]
    assert sums("--key", "csk_zz99zz99") == [("ward", 1)]
    assert sums("--deployment", "other") == []


def test_single_requests_are_a_table_json_or_csv(shell: Shell) -> None:
    ids = ["req_1", "req_2", "req_3"]
    assert [line.split()[2] for line in shell.says("usage", "--records").splitlines()[1:]] == ids
    assert [record["id"] for record in shell.tells("usage", "--records")] == ids
    rows = csv.DictReader(io.StringIO(shell.says("usage", "--records", "--csv", "-")))
    assert [(row["id"], row["cost_micros"]) for row in rows] == [
        ("req_1", "1500000"),
        ("req_2", ""),
        ("req_3", "1500000"),
    ]


def test_csv_goes_to_a_file_that_only_its_owner_reads(shell: Shell) -> None:
    file = shell.folder / "november.csv"
    assert shell.says("usage", "--by", "tenant,key", "--csv", str(file)) == ""
    rows = list(csv.DictReader(file.open()))
    assert [(row["tenant"], row["key"], row["requests"]) for row in rows] == [
        ("lab", "ab12cd34", "1"),
        ("ward", "ab12cd34", "1"),
        ("ward", "zz99zz99", "1"),
    ]
    assert file.stat().st_mode & 0o777 == 0o600


def test_old_records_are_deleted_and_that_is_in_the_audit_log(shell: Shell) -> None:
    before = f"{NOW - timedelta(days=40):%Y-%m-%d}"
    assert shell.says("usage", "prune", "--before", before).startswith("Deleted 1 records")
    assert len(shell.tells("usage", "--records", "--from", "2020-01-01")) == 3
    (last, *_) = shell.tells("audit", "list", "--kind", "admin")
    assert (last["details"]["action"], last["details"]["result"]) == ("usage.prune", "1")


def test_records_that_limits_count_from_stay(shell: Shell) -> None:
    assert "of this month stay" in shell.refuses("usage", "prune", "--before", f"{NOW + timedelta(days=1):%Y-%m-%d}")
    assert len(shell.tells("usage", "--records")) == 3


def test_days_are_drawn_as_bars_that_fit_the_terminal(shell: Shell) -> None:
    week = f"{NOW - timedelta(days=6):%Y-%m-%d}"
    with shell.office() as office:
        office.usage_store.add([replace(REQUEST, id="req_5", started_at=NOW - timedelta(days=1), completion_tokens=80)])
    *empty, yesterday, today, total = shell.says("usage", "--plot", "--from", week).splitlines()
    assert len(empty) == 5 and all(line.split()[1:] == ["0"] for line in empty)
    assert yesterday.split()[:2] == [f"{NOW - timedelta(days=1):%Y-%m-%d}", "90"] and len(yesterday) == 80
    assert yesterday.count("█") == 65 and today.count("█") == 32 and total == "135 tokens in 7 days"
    assert "90 tokens" in shell.says("usage", "--plot", "--from", week, "--to", f"{NOW:%Y-%m-%d}").splitlines()[-1]


def test_what_is_little_is_seen_and_what_is_nothing_is_not() -> None:
    assert [bar(value, 1000, 20) for value in (0, 1, 500, 1000)] == ["", "▏", "█" * 10, "█" * 20]


def test_what_makes_no_sense_is_one_line(shell: Shell) -> None:
    assert "tenant, key, deployment, day" in shell.refuses("usage", "--by", "patient")
    assert "--from takes a day" in shell.refuses("usage", "--from", "yesterday")
    assert "--plot draws for people" in shell.refuses("usage", "--plot", "--json")
    assert "/nowhere/x: No such file" in shell.refuses("usage", "--csv", "/nowhere/x")


def test_nothing_is_an_empty_list(shell: Shell) -> None:
    assert json.loads(shell.says("usage", "--tenant", "nobody", "--json")) == []
