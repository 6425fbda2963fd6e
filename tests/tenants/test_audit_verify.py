"""Verifying: whatever is changed, taken out, moved or added in a log is found, and where."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from serving.tenants.audit import Checkpoint, Head, Record, Signer, hash_of
from serving.tenants.audit_store import MemoryAudit
from serving.tenants.audit_verify import Report, verify
from tests.tenants.audit_events import NOON, SEED, event, logging_to, written

KEY = Signer(SEED).public_key
Log = tuple[list[Record], list[Checkpoint]]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    """Two chains; the second has witnessed where the first ended."""
    store, spool = MemoryAudit(), tmp_path_factory.mktemp("spool")
    written(store, spool, range(20), now=lambda: NOON)
    written(store, spool, range(20, 40), now=lambda: NOON + timedelta(hours=1))
    return list(store.records()), list(store.checkpoints())


def check(records: list[Record], checkpoints: list[Checkpoint]) -> Report:
    return verify(records, checkpoints, [KEY])


def test_a_log_as_it_was_written_is_valid(log: Log) -> None:
    report = check(*log)
    assert (report.valid, report.chains, report.open_chains) == (True, 2, [])
    assert report.records == len(log[0]) and report.checkpoints == len(log[1]) > 4


def forged(record: Record) -> Record:
    """Changed by somebody who knows how hashes are made."""
    body = record.body.replace('"completion_tokens":', '"completion_tokens":1')
    return replace(record, body=body, hash=hash_of(body))


EDITS: dict[str, Callable[[list[Record], int], list[Record]]] = {
    "changed": lambda records, at: [*records[:at], forged(records[at]), *records[at + 1 :]],
    "its column changed": lambda records, at: [*records[:at], replace(records[at], tenant="x"), *records[at + 1 :]],
    "removed": lambda records, at: records[:at] + records[at + 1 :],
    "doubled": lambda records, at: records[: at + 1] + records[at:],
    "exchanged": lambda records, at: [*records[:at], *records[at : at + 2][::-1], *records[at + 2 :]],
    "cut off here": lambda records, at: [r for r in records if r.chain != records[at].chain or r.seq < records[at].seq],
}


@pytest.mark.parametrize("edit", EDITS)
@given(data=st.data())
def test_any_single_edit_is_found_in_its_chain(log: Log, edit: str, data: st.DataObject) -> None:
    records, checkpoints = log
    at = data.draw(st.integers(0, len(records) - 1))
    edited = EDITS[edit](records, at)
    assume(edited != records)
    findings = check(edited, checkpoints).findings
    assert any(finding.chain == records[at].chain for finding in findings)


def test_a_changed_record_is_named_by_its_place(log: Log) -> None:
    records = list(log[0])
    records[7] = forged(records[7])
    places = {(f.chain, f.seq) for f in check(records, log[1]).findings}
    assert (records[7].chain, records[8].seq) in places  # the next does not follow it


def test_a_missing_record_is_named(log: Log) -> None:
    (finding, *_) = check(log[0][:7] + log[0][9:], log[1]).findings
    assert (finding.seq, finding.what) == (8, "missing up to 9")


def test_a_tail_that_is_cut_off_with_its_checkpoints_contradicts_the_other_chain(log: Log) -> None:
    records, checkpoints = log
    chain, last = records[0].chain, [c for c in checkpoints if c.chain == records[0].chain][-3].seq
    cut = (
        [r for r in records if r.chain != chain or r.seq <= last],
        [c for c in checkpoints if c.chain != chain or c.seq <= last],
    )
    (finding,) = check(*cut).findings
    assert (finding.chain, finding.seq) == (chain, last + 1) and "cut off" in finding.what


def test_a_chain_that_is_gone_is_missed(log: Log) -> None:
    chain = log[0][0].chain
    (finding,) = check([r for r in log[0] if r.chain != chain], [c for c in log[1] if c.chain != chain]).findings
    assert finding.chain == chain and "gone" in finding.what


def test_an_anchor_that_was_kept_elsewhere_finds_a_cut_that_nothing_else_shows(log: Log) -> None:
    records, checkpoints = log
    last = records[-1]
    anchor = Head(last.chain, last.seq, last.hash)
    before = [c for c in checkpoints if c.chain == last.chain][-2].seq
    cut_records = [r for r in records if r.chain != last.chain or r.seq <= before]
    cut_checkpoints = [c for c in checkpoints if c.chain != last.chain or c.seq <= before]
    assert check(cut_records, cut_checkpoints).valid
    (finding,) = verify(cut_records, cut_checkpoints, [KEY], anchors=[anchor]).findings
    assert "cut off" in finding.what


def test_a_log_of_another_key_is_not_believed(log: Log) -> None:
    assert not verify(*log, [Signer(b"another seed of a signing key 32").public_key]).valid
    assert not verify(*log, []).valid


def test_a_forger_without_the_key_cannot_make_a_chain_again(log: Log, tmp_path: Path) -> None:
    store = MemoryAudit()
    with logging_to(store, tmp_path) as mine:
        for number in range(5):
            mine.record(event(number, forged=True))
    forged_chain = [replace(r, chain=log[0][0].chain) for r in store.records()]
    assert not check(forged_chain + [r for r in log[0] if r.chain != log[0][0].chain], log[1]).valid


def test_a_body_that_is_no_json_is_found_and_nothing_breaks(log: Log) -> None:
    for body in ("", "null", "[]", "{", json.dumps({"details": {"heads": [[1]]}})):
        records = [replace(log[0][0], body=body, hash=hash_of(body)), *log[0][1:]]
        assert not check(records, log[1]).valid


def test_a_process_that_crashed_leaves_an_open_chain_which_is_no_finding(log: Log) -> None:
    chain = log[0][-1].chain
    last = [c for c in log[1] if c.chain == chain][-2].seq
    report = check(
        [r for r in log[0] if r.chain != chain or r.seq <= last],
        [c for c in log[1] if c.chain != chain or c.seq <= last],
    )
    assert report.valid and report.open_chains == [chain]
