"""Files of records that were damaged, or are none of ours: whatever they are, all else is delivered and it is told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.app import open_office
from serving.tenants.audit_log import AuditLog
from serving.tenants.audit_store import MemoryAudit
from serving.tenants.ledger import MemoryUsage, UsageQuery, UsageRecord, decoded, encoded
from serving.tenants.writer import BatchWriter
from tests.commands.shell import Shell
from tests.conftest import OpenSite
from tests.local import chat, listening
from tests.tenants.audit_events import SEED, event
from tests.tenants.test_usage_store_contract import record

Damage = Callable[[Path], object]
GOOD = json.dumps(encoded(record("good")))
DEEP = "[" * 100_000


def text(content: str | bytes) -> Damage:
    return lambda path: path.write_bytes(content if isinstance(content, bytes) else content.encode())


def changed(**values: Any) -> Damage:
    return text(json.dumps(encoded(record("bad")) | values) + "\n")


DAMAGED: dict[str, Damage] = {
    "half a line": text('{"chain": "2026'),
    "empty": text(""),
    "blank": text("\n\n"),
    "zeros, as a power failure leaves them": text(b"\0" * 4096),
    "binary": lambda path: path.write_bytes(os.urandom(4096)),
    "not UTF-8": text(b'"\xff\xfe"\n'),
    "a number": text("1\n"),
    "null": text("null\n"),
    "a list": text("[]\n"),
    "another shape": text('{"a": 1}\n'),
    "a digit too many": text("9" * 5000 + "\n"),
    "deep": text(DEEP + "\n"),
    "deep in a field": text('{"id": ' + DEEP + "\n"),
    "a long line": text("x" * 3_000_000 + "\n"),
    "a number beyond 64 bits": changed(prompt_tokens=2**70),
    "a number that is none": changed(duration=float("nan")),
    "a list for a text": changed(id=["x"]),
    "a text for a number": changed(prompt_tokens="5"),
    "a truth for a number": changed(prompt_tokens=True),
    "a null for a text": changed(tenant=None),
    "a text with a NUL": changed(tenant="a\0b"),
    "half a surrogate": changed(tenant="\ud800"),
    "a time without a zone": changed(started_at="2026-01-01T00:00:00"),
    "no time": changed(started_at="yesterday"),
    "a time that is a number": changed(started_at=5),
    "one field too many": changed(surplus=1),
    "a folder": lambda path: path.mkdir(),
    "a folder with something in it": lambda path: (path / "inner").mkdir(parents=True),
    "a link to nowhere": lambda path: path.symlink_to("/nonexistent"),
    "a link to an endless file": lambda path: path.symlink_to("/dev/zero"),
    "a pipe that nobody writes": lambda path: os.mkfifo(path),
}


def delivered(spool: Path) -> list[str]:
    store = MemoryUsage()
    writer = BatchWriter[UsageRecord](store.add, encode=encoded, decode=decoded, spool=spool, flush=0.01)
    writer.start()
    assert writer.flush(5)
    writer.close()
    return [one.id for one in store.records(UsageQuery())]


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED.keys())
def test_what_cannot_be_read_is_set_aside_and_the_rest_is_delivered(tmp_path: Path, damage: Damage) -> None:
    damage(tmp_path / "0-dead.jsonl")
    (tmp_path / "1-good.jsonl").write_text(GOOD + "\n")
    assert delivered(tmp_path) == ["good"]
    assert [path.name for path in tmp_path.iterdir()] == ["0-dead.jsonl.bad"]
    assert delivered(tmp_path) == []


@pytest.mark.parametrize("torn", ['{"id": "half', "\0\0\0", DEEP])
def test_the_lines_before_a_torn_one_are_delivered(tmp_path: Path, torn: str) -> None:
    (tmp_path / "0.jsonl").write_text(GOOD + "\n" + torn)
    assert delivered(tmp_path) == ["good"]
    assert [path.name for path in tmp_path.iterdir()] == ["0.jsonl.bad"]


def test_what_a_process_that_died_had_not_finished_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    unfinished, now_written = tmp_path / ".0.jsonl.ab.partial", tmp_path / ".1.jsonl.cd.partial"
    for path in (unfinished, now_written):
        path.write_text(GOOD + "\n" + GOOD[:20])
    os.utime(unfinished, (0, 0))
    assert delivered(tmp_path) == ["good"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".1.jsonl.cd.partial", "0.jsonl.ab.partial.bad"]


def test_what_is_set_aside_is_kept_in_bounded_number(tmp_path: Path) -> None:
    for number in range(130):
        (tmp_path / f"{number:03}.jsonl").write_text("{")
    delivered(tmp_path)
    assert len(list(tmp_path.iterdir())) == 100


@pytest.mark.parametrize("content", [b"\0", b"x"])
def test_a_spool_that_is_no_folder_stops_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "spool").write_bytes(content)
    assert delivered(tmp_path / "spool") == []


def test_a_file_that_contradicts_the_log_keeps_nothing_behind_it_waiting(tmp_path: Path) -> None:
    """Such as one that was left by a server whose database was then restored from before."""
    store, away = MemoryAudit(), MemoryAudit()
    away.append = lambda *_: (_ for _ in ()).throw(OSError)  # type: ignore[method-assign]
    log = AuditLog(away, secret=b"s", seed=SEED, spool=tmp_path, flush=0.01)
    log.begin()
    log.record(event(0))
    log.end()
    (kept,) = tmp_path.iterdir()
    lines = kept.read_text().splitlines()
    kept.write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    delivered_to(store, tmp_path)
    kept.write_text("\n".join(lines).replace("req_0", "req_9") + "\n")  # its hash is another's
    delivered_to(store, tmp_path)
    assert [path.suffix for path in tmp_path.iterdir()] == [".bad"]
    assert "req_1" in {one.request_id for one in store.records()}


def delivered_to(store: MemoryAudit, spool: Path) -> None:
    log = AuditLog(store, secret=b"s", seed=SEED, spool=spool, flush=0.01)
    log.begin()
    log.record(event(1))
    assert log.flush(5)
    log.end()


@pytest.mark.parametrize("damage", [DAMAGED[name] for name in ("half a line", "binary", "a folder", "deep")])
async def test_the_server_and_administration_start_and_say_what_is_damaged(
    tmp_path: Path, installed: tuple[Path, str], site: OpenSite, damage: Damage
) -> None:
    shell = Shell.at(tmp_path, installed[0])
    for book in ("audit", "usage"):
        folder = shell.settings.server.state_dir / "spool" / book
        folder.mkdir(parents=True)
        damage(folder / "0-dead.jsonl")
    assert "ward" in shell.says("tenants", "list")
    with open_office(shell.settings):
        pass
    with listening(site().app) as url:
        async with site().client(url) as client:
            assert (await client.post("/v1/chat/completions", json=chat())).status_code == 200
            metric = 'clinserve_bad_files{book="audit"} 1.0'
            assert metric in (await client.get("/metrics")).text
    findings = {finding["what"]: finding for finding in json.loads(shell.run("doctor", "--json").stdout)}
    assert findings["spool"]["state"] == "warning" and "2 damaged" in findings["spool"]["detail"]
