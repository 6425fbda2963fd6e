"""Verifying an audit log: which records were changed, are missing, were moved or added, and where. Pure, and offline.

The verifier trusts public keys that it was given, never the one in the log. It reads each chain once, in order.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from serving.tenants.audit import NO_PREDECESSOR, Checkpoint, Head, Record, hash_of, is_signed, stamp


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written. seq 0: the chain as a whole."""

    chain: str
    seq: int
    what: str


@dataclass(slots=True)
class Report:
    """findings: what is wrong. open_chains: without a closing record, of processes that run or that crashed."""

    chains: int = 0
    records: int = 0
    checkpoints: int = 0
    findings: list[Finding] = field(default_factory=list)
    open_chains: list[str] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        return not self.findings


def verify(
    records: Iterable[Record],
    checkpoints: Iterable[Checkpoint],
    public_keys: Collection[str],
    *,
    anchors: Iterable[Head] = (),
    on_progress: Callable[[int], None] = lambda records: None,
) -> Report:
    """Verify a whole log. records, checkpoints: by chain and place, as a store or an export gives them.

    public_keys: hex, those that are trusted. anchors: heads that were kept elsewhere. on_progress: records so far.
    """
    report = Report()
    signed: defaultdict[str, dict[int, Checkpoint]] = defaultdict(dict)
    for checkpoint in checkpoints:
        report.checkpoints += 1
        if any(is_signed(checkpoint, key) for key in public_keys):
            signed[checkpoint.chain][checkpoint.seq] = checkpoint
        else:
            report.findings.append(Finding(checkpoint.chain, checkpoint.seq, "checkpoint without a trusted signature"))
    said = _Said()
    said.by_others(anchors, "an anchor that was kept elsewhere")
    last_signed = [chain[max(chain)] for chain in signed.values()]
    said.by_others([Head(c.chain, c.seq, c.hash) for c in last_signed], "a checkpoint")
    walks: dict[str, _Walk] = {}
    for chain, group in groupby(records, key=lambda record: record.chain):
        if chain in walks:
            report.findings.append(Finding(chain, 0, "records of the chain stand in two places"))
            continue
        walks[chain] = walk = _Walk(chain, signed[chain], report, said)
        for record in group:
            walk.step(record)
            report.records += 1
            if report.records % 1000 == 0:
                on_progress(report.records)
        walk.end()
    report.chains = len(walks)
    report.findings += said.contradictions(walks, signed)
    report.findings.sort(key=lambda finding: (finding.chain, finding.seq))
    on_progress(report.records)
    return report


class _Walk:
    """Along one chain."""

    def __init__(self, chain: str, signed: dict[int, Checkpoint], report: Report, said: _Said) -> None:
        self.chain = chain
        self.first: Head | None = None
        self.last: Head | None = None
        self.hashes: dict[int, str] = {}
        """At the ends of batches: the places that others speak of."""
        self._signed = signed
        self._report = report
        self._said = said
        self._kind = ""

    def step(self, record: Record) -> None:
        here = Head(self.chain, record.seq, hash_of(record.body))
        body = self._body_of(record)
        if here.hash != record.hash:
            self._found(record.seq, "changed: the body does not have this hash")
        elif body is not None and not _agrees(record, body):
            self._found(record.seq, "changed: the columns do not say what the body says")
        if self.last is None:
            self.first = here
        elif record.seq <= self.last.seq:
            self._found(record.seq, "moved, or written twice")
        elif record.seq > self.last.seq + 1:
            self._found(self.last.seq + 1, f"missing up to {record.seq - 1}")
        elif body is not None and body.get("prev") != self.last.hash:
            self._found(record.seq, "does not follow the record before it: one of the two was changed or exchanged")
        if self.last is None and record.seq == 1 and body is not None and body.get("prev") != NO_PREDECESSOR:
            self._found(1, "changed: the first record has a predecessor")
        if checkpoint := self._signed.get(record.seq):
            self.hashes[record.seq] = here.hash
            if checkpoint.hash != here.hash:
                self._found(record.seq, "changed: the checkpoint was signed over another hash")
        self.last, self._kind = here, record.kind
        if body is not None:
            self._said.by_record(self.chain, record, body)

    def end(self) -> None:
        assert self.last is not None
        if self.last.seq not in self._signed:
            self._found(
                self.last.seq, "the end of the chain is not signed: what followed was cut off, or this was added"
            )
        if self._kind != "closed":
            self._report.open_chains.append(self.chain)

    def _body_of(self, record: Record) -> dict[str, Any] | None:
        try:
            body = json.loads(record.body)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            self._found(record.seq, "changed: the body is not JSON")
            return None
        return body

    def _found(self, seq: int, what: str) -> None:
        self._report.findings.append(Finding(self.chain, seq, what))


def _agrees(record: Record, body: dict[str, Any]) -> bool:
    names = ("chain", "seq", "kind", "tenant", "request_id")
    return body.get("at") == stamp(record.at) and all(body.get(name) == getattr(record, name) for name in names)


class _Said:
    """What chains have said about where others end, anchors about all of them, and what was pruned."""

    def __init__(self) -> None:
        self._heads: list[tuple[Head, str]] = []
        self._pruned: dict[str, Head] = {}

    def by_others(self, heads: Iterable[Head], source: str) -> None:
        self._heads += [(head, source) for head in heads]

    def by_record(self, chain: str, record: Record, body: dict[str, Any]) -> None:
        if record.kind not in ("witness", "pruned"):
            return
        for head in _heads_in(body):
            if record.kind == "witness":
                self._heads.append((head, f"record {record.seq} of chain {chain}"))
            elif head.seq > self._pruned.get(head.chain, Head(head.chain, 0, "")).seq:
                self._pruned[head.chain] = head

    def contradictions(self, walks: dict[str, _Walk], signed: dict[str, dict[int, Checkpoint]]) -> Iterator[Finding]:
        for chain, walk in walks.items():
            assert walk.first is not None
            if walk.first.seq > 1 and not self._may_begin_after(chain, walk.first.seq - 1, signed):
                yield Finding(chain, 1, f"missing up to {walk.first.seq - 1}: not pruned by a record of the log")
        reported = set()
        for head, source in self._heads:
            pruned_upto = self._pruned[head.chain].seq if head.chain in self._pruned else 0
            one = walks.get(head.chain)
            if head.seq <= pruned_upto or head.chain in reported:
                continue
            if one is None:
                reported.add(head.chain)
                yield Finding(head.chain, 0, f"the chain is gone: {source} knows it up to {head.seq}")
            elif one.last is not None and head.seq > one.last.seq:
                reported.add(head.chain)
                yield Finding(head.chain, one.last.seq + 1, f"cut off: {source} knows the chain up to {head.seq}")
            elif one.hashes.get(head.seq, head.hash) != head.hash:
                reported.add(head.chain)
                yield Finding(head.chain, head.seq, f"changed: {source} knows another record here")

    def _may_begin_after(self, chain: str, seq: int, signed: dict[str, dict[int, Checkpoint]]) -> bool:
        pruned, checkpoint = self._pruned.get(chain), signed.get(chain, {}).get(seq)
        return pruned is not None and pruned.seq == seq and checkpoint is not None and checkpoint.hash == pruned.hash


def _heads_in(body: dict[str, Any]) -> Iterator[Head]:
    details = body.get("details")
    for head in details.get("heads", ()) if isinstance(details, dict) else ():
        if isinstance(head, list) and len(head) == 3:
            yield Head(str(head[0]), int(head[1]), str(head[2]))
