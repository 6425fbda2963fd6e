"""`clinserve audit`, as an auditor types it."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving.cli import cli
from serving.commands.audit_file import StoredLog
from serving.gateway.digests import prompt_bytes
from serving.tenants.audit import AuditEvent
from serving.tenants.audit_verify import verify
from tests.commands.shell import Shell

ANSWER = "Lisinopril 10 mg daily."
MESSAGES = [{"role": "user", "content": "Which medications?"}]


@pytest.fixture
def shell(tmp_path: Path, installed: tuple[Path, str]) -> Shell:
    """Two acts of administrators, and then a request that has asked MESSAGES and was answered ANSWER."""
    shell = Shell.at(tmp_path, installed[0])
    shell.says("tenants", "create", "lab")
    with shell.office() as office:
        digest = office.audit_log.digest
        details = {
            "deployment": "echo",
            "prompt": digest(prompt_bytes({"messages": MESSAGES})),
            "answers": [digest(b"Another."), digest(ANSWER.encode())],
            "outcome": "ok",
        }
        office.audit_log.record(AuditEvent("inference", datetime.now(UTC), "ward", "ab12cd34", "req_1", details))
    return shell


def change(shell: Shell, statement: str) -> None:
    database = sqlite3.connect(shell.folder / "state" / "clinserve.db")
    with database:
        assert database.execute(statement).rowcount > 0
    database.close()


def test_what_was_done_is_listed_the_newest_first(shell: Shell) -> None:
    header, request, *acts = [
        line for line in shell.says("audit", "list").splitlines() if "admin" in line or "req" in line
    ]
    assert header.split()[:4] == ["at", "kind", "tenant", "actor"]
    assert "ab12cd34" in request and "echo" in request and request.split()[-2:] == ["ok", "req_1"]
    assert "tenant.create lab" in acts[0] and "tenant.create ward" in acts[-1]


def test_the_list_is_filtered_and_as_long_as_asked(shell: Shell) -> None:
    def targets(*words: str) -> list[str]:
        return [one["details"].get("target", "") for one in shell.tells("audit", "list", *words)]

    assert targets("--kind", "admin") == ["lab", "ward"]
    assert targets("--kind", "admin", "--limit", "1") == ["lab"]
    assert targets("--kind", "admin", "--tenant", "ward") == ["ward"]
    assert targets("--request", "req_1") == [""]
    assert targets("--to", "2020-01-01") == []


def test_a_log_that_nobody_touched_is_valid(shell: Shell) -> None:
    assert shell.says("audit", "verify").splitlines()[-1].endswith("3 anchors: valid")
    assert shell.tells("audit", "verify")["findings"] == []


def test_what_was_changed_is_found_by_its_place_and_the_status_is_2(shell: Shell) -> None:
    chain, seq = place(shell, "req_1")
    change(shell, f"UPDATE audit_records SET body = replace(body, 'ok', 'no') WHERE chain = '{chain}' AND seq = {seq}")
    result = shell.run("audit", "verify")
    assert result.exit_code == 2
    assert f"chain {chain}, record {seq}: changed" in result.stdout
    assert "NOT VALID" in result.stdout.splitlines()[-1]


def place(shell: Shell, request: str) -> tuple[str, int]:
    (record,) = shell.tells("audit", "find", "--request", request)
    return record["chain"], record["seq"]


def test_a_damaged_record_is_listed_as_such(shell: Shell) -> None:
    change(shell, "UPDATE audit_records SET body = '{' WHERE request_id = 'req_1'")
    assert "damaged: 'clinserve audit verify'" in shell.says("audit", "list")
    (record,) = shell.tells("audit", "list", "--request", "req_1")
    assert (record["actor"], record["details"]) == ("", None)


def test_an_export_is_verified_where_there_is_neither_database_nor_secret(shell: Shell, tmp_path: Path) -> None:
    file, key = tmp_path / "audit.jsonl", shell.says("audit", "public-key").strip()
    assert shell.says("audit", "export", "--output", str(file)) == ""
    assert file.stat().st_mode & 0o777 == 0o600

    def verified(key: str) -> int:
        words = ["--config", "/nowhere.yaml", "audit", "verify", "--file", str(file), "--public-key", key]
        return CliRunner().invoke(cli, words).exit_code

    assert (verified(key), verified("00" * 32), verified("nonsense")) == (0, 2, 1)
    file.write_text(file.read_text().replace("req_1", "req_2"))
    assert verified(key) == 2


def test_an_export_goes_to_standard_output_and_holds_the_whole_log(shell: Shell) -> None:
    lines = [json.loads(line) for line in shell.says("audit", "export").splitlines()]
    records = [line["record"] for line in lines if "record" in line]
    assert len(records) + 3 == shell.tells("audit", "verify")["records"]  # that it was exported is in it too
    assert {"req_1"} == {record["request_id"] for record in records} - {""}


def test_an_export_from_before_a_change_is_verified_with_this_servers_key(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    shell.says("audit", "export", "--output", str(file))
    change(shell, "DELETE FROM audit_records")
    assert shell.tells("audit", "verify", "--file", str(file))["valid"]


def test_a_tail_that_was_cut_off_contradicts_an_anchor(shell: Shell, tmp_path: Path) -> None:
    chain, _ = place(shell, "req_1")
    with shell.office() as office:
        (head,) = [one for one in office.audit_store.heads() if one.chain == chain]
    anchors = tmp_path / "requests.jsonl"
    lines = [{"event": "request"}, {"event": "audit_checkpoint", "chain": chain, "seq": head.seq, "hash": head.hash}]
    anchors.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert shell.tells("audit", "verify", "--anchors", str(anchors))["valid"]
    for table in ("audit_records", "audit_checkpoints"):
        change(shell, f"DELETE FROM {table} WHERE chain = '{chain}'")
    shutil.rmtree(shell.folder / "state" / "audit" / "anchors")
    assert shell.says("audit", "verify")  # nothing in the log knows better
    result = shell.run("audit", "verify", "--anchors", str(anchors))
    assert result.exit_code == 2 and f"chain {chain}, as a whole: the chain is gone" in result.stdout


def test_a_server_that_goes_on_writing_makes_no_log_look_damaged(shell: Shell) -> None:
    with shell.office() as office:
        office.administration.create_tenant(office.actor, "cardiology", "Cardiology")
        assert office.audit_log.flush()
        log = StoredLog(office.audit_store)
        checkpoints = list(log.checkpoints())
        office.administration.create_tenant(office.actor, "oncology", "Oncology")
        assert office.audit_log.flush()
        report = verify(log.records(), checkpoints, [office.public_key])
    assert report.valid and report.open_chains


def test_the_request_that_produced_a_text_is_found(shell: Shell, tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    for ending in ("", "\n"):  # editors add one
        letter.write_text(ANSWER + ending)
        (found,) = shell.tells("audit", "find", "--answer", str(letter))
        assert (found["request_id"], found["tenant"]) == ("req_1", "ward")
    assert "req_1" in shell.says("audit", "find", "--answer", str(letter))


def test_the_request_that_was_asked_something_is_found(shell: Shell, tmp_path: Path) -> None:
    text, file = MESSAGES[0]["content"], tmp_path / "prompt"
    for form in (json.dumps({"model": "echo", "messages": MESSAGES}), json.dumps(MESSAGES), text, text + "\n"):
        file.write_text(form)
        (found,) = shell.tells("audit", "find", "--prompt", str(file))
        assert found["request_id"] == "req_1"


def test_what_nobody_produced_is_not_found_and_the_status_is_1(shell: Shell, tmp_path: Path) -> None:
    letter = tmp_path / "letter.txt"
    letter.write_text(ANSWER.lower())
    assert "no request in the audit log fits" in shell.refuses("audit", "find", "--answer", str(letter))
    assert "no request" in shell.refuses("audit", "find", "--request", "req_2")
    assert "Name one of" in shell.refuses("audit", "find")


def test_two_administrators_prune_what_retention_does_not_keep(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert "in the future" in shell.refuses("audit", "prune", "--before", f"{tomorrow:%Y-%m-%d}")
    assert "audit.retention" in shell.refuses("audit", "prune", "--before", "2020-01-01")
    assert "--approve ID" in shell.refuses("audit", "prune")
    monkeypatch.setenv("CLINSERVE_AUDIT__RETENTION", "1d")
    asked = shell.says("audit", "prune", "--before", "2020-01-01")
    id = re.search(r"--approve (prune_\w+)", asked)
    assert id and "another administrator" in shell.refuses("audit", "prune", "--approve", id[1])
    monkeypatch.setenv("LOGNAME", "ben")  # which anybody may say of himself
    assert "another administrator" in shell.refuses("audit", "prune", "--approve", id[1])
    acts = [
        (one["details"]["action"], one["details"]["outcome"]) for one in shell.tells("audit", "list", "--kind", "admin")
    ]
    assert acts[:3] == [("audit.prune", "invalid_request")] * 2 + [("audit.prune.request", "done")]
    assert shell.tells("audit", "verify")["valid"]


def test_what_cannot_be_verified_is_one_line_and_the_status_is_1(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    offline = ("audit", "verify", "--public-key", "00" * 32)
    assert f"{file}: No such file" in shell.refuses(*offline, "--file", str(file))
    for text in ("x\n", '{"a": 1}\n', '{"record": 1}\n'):
        file.write_text(text)
        assert "not an exported audit log" in shell.refuses(*offline, "--file", str(file))
    file.write_text('{"event": "request"}\n')
    assert "there is no anchor" in shell.refuses(*offline, "--anchors", str(file))


@pytest.mark.parametrize("where", ["audit_records", "audit_checkpoints", "audit_records, then audit_checkpoints"])
def test_a_log_whose_rows_are_all_deleted_is_not_valid(shell: Shell, where: str) -> None:
    for table in where.split(", then "):
        change(shell, f"DELETE FROM {table}")
    said = shell.run("audit", "verify", "--json")
    assert said.exit_code == 2 and not json.loads(said.stdout)["valid"]


def test_an_empty_log_without_anchors_is_not_valid_either(shell: Shell) -> None:
    shutil.rmtree(shell.folder / "state" / "audit" / "anchors")
    for table in ("audit_records", "audit_checkpoints"):
        change(shell, f"DELETE FROM {table}")
    said = shell.run("audit", "verify")
    assert said.exit_code == 2 and "the log is empty" in said.stdout


def test_a_line_of_an_export_that_is_none_is_a_finding_with_its_place(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    shell.says("audit", "export", "--output", str(file))
    lines = file.read_bytes().splitlines(keepends=True)
    for bad in (
        b"[" * 100_000 + b"\n",
        b"\xff\xfe\n",
        b"\0\n",
        b'{"record": {"seq": 1, "seq": 2}}\n',
        b"1" * 9000 + b"\n",
    ):
        file.write_bytes(b"".join([*lines[:-1], bad, lines[-1]]))
        said = shell.run("audit", "verify", "--file", str(file))
        assert said.exit_code == 2 and f"line {len(lines)} of the file cannot be read" in said.stdout


def test_what_a_restore_did_not_bring_back_can_be_stated_and_stays_in_sight(shell: Shell) -> None:
    chain, _ = place(shell, "req_1")
    for table in ("audit_records", "audit_checkpoints"):
        change(shell, f"DELETE FROM {table} WHERE chain = '{chain}'")
    assert shell.run("audit", "verify").exit_code == 2
    assert f"chain {chain}" in shell.says("audit", "restored", "--reason", "backup of 2026-11-01")
    said = shell.tells("audit", "verify")
    assert said["valid"] and [(one["chain"], one["why"]) for one in said["missing"]] == [(chain, "restored")]
