"""Verifying an audit log: which records were changed, are missing, were moved or added, and where. Pure, and offline.

The verifier trusts public keys that it was given, never the one in the log. It reads each chain once, in order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from serving.tenants.audit import (
    NO_PREDECESSOR,
    Checkpoint,
    Head,
    Record,
    Unreadable,
    hash_of,
    heads_of,
    is_signed,
    stamp,
    strict_json,
)

ANCHOR = "an anchor that was kept elsewhere"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it was written. seq 0: the chain as a whole."""

    chain: str
    seq: int
    what: str


@dataclass(frozen=True, slots=True)
class Missing:
    """Records of a chain that are missing as the log itself says, in a record of its own: `pruned`, those up to seq;
    `restored`, those after what there is up to seq, which a restore from a backup did not bring back.
    """

    chain: str
    seq: int
    why: str
    said_by: str


@dataclass(slots=True)
class Report:
    """findings: what is wrong. open_chains: without a closing record, of processes that run or that crashed. anchors:
    how many heads that were kept elsewhere the log was held against. missing: what is by the log's own word.
    """

    chains: int = 0
    records: int = 0
    checkpoints: int = 0
    anchors: int = 0
    missing: list[Missing] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    open_chains: list[str] = field(default_factory=list)

    @property
    def valid(self) -> bool:
        return not self.findings


def verify(
    records: Iterable[Record | Unreadable],
    checkpoints: Iterable[Checkpoint | Unreadable],
    public_keys: Collection[str],
    *,
    anchors: Iterable[Head | Checkpoint | Unreadable] = (),
    on_progress: Callable[[int], None] = lambda records: None,
) -> Report:
    """Verify a whole log. records, checkpoints: by chain and place, as a store or an export gives them.

    public_keys: hex, those that are trusted. anchors: heads that were kept elsewhere; read before the log, which goes
    on. Signed ones are checked. on_progress: records so far. Raises nothing for what it finds, whatever that is.
    """
    verification = _Verification(public_keys, on_progress)
    verification.take_anchors(anchors)
    verification.take_checkpoints(checkpoints)
    verification.walk(records)
    return verification.report()


class _Verification:
    def __init__(self, public_keys: Collection[str], on_progress: Callable[[int], None]) -> None:
        self._keys = public_keys
        self._on_progress = on_progress
        self._report = Report()
        self._said = _Said()
        self._signed: defaultdict[str, dict[int, Checkpoint]] = defaultdict(dict)
        self._walks: dict[str, _Walk] = {}

    def take_anchors(self, anchors: Iterable[Head | Checkpoint | Unreadable]) -> None:
        for anchor in anchors:
            if isinstance(anchor, Unreadable):
                self._found(anchor)
            elif isinstance(anchor, Checkpoint) and not self._is_signed(anchor):
                self._found(Unreadable(anchor.chain, anchor.seq, "an anchor without a trusted signature"))
            else:
                self._report.anchors += 1
                self._said.by_other(Head(anchor.chain, anchor.seq, anchor.hash), ANCHOR)

    def take_checkpoints(self, checkpoints: Iterable[Checkpoint | Unreadable]) -> None:
        for checkpoint in checkpoints:
            self._report.checkpoints += 1
            if isinstance(checkpoint, Unreadable):
                self._found(checkpoint)
            elif self._is_signed(checkpoint):
                self._signed[checkpoint.chain][checkpoint.seq] = checkpoint
            else:
                self._found(Unreadable(checkpoint.chain, checkpoint.seq, "checkpoint without a trusted signature"))
        for chain in self._signed.values():
            last = chain[max(chain)]
            self._said.by_other(Head(last.chain, last.seq, last.hash), "a checkpoint")

    def walk(self, records: Iterable[Record | Unreadable]) -> None:
        for chain, group in groupby(records, key=lambda record: record.chain):
            if chain in self._walks:
                self._found(Unreadable(chain, 0, "records of the chain stand in two places"))
            known = self._walks.get(chain)
            for record in group:
                self._report.records += 1
                if self._report.records % 1000 == 0:
                    self._on_progress(self._report.records)
                if isinstance(record, Unreadable):
                    self._found(record)
                elif known is None:
                    if chain not in self._walks:
                        self._walks[chain] = _Walk(chain, self._signed[chain], self._report, self._said)
                    self._walks[chain].step(record)

    def report(self) -> Report:
        report = self._report
        for walk in self._walks.values():
            walk.end()
        report.chains = len(self._walks)
        report.findings += self._said.contradictions(self._walks, self._signed)
        report.findings.sort(key=lambda finding: (finding.chain, finding.seq))
        report.missing = self._said.missing()
        self._on_progress(report.records)
        return report

    def _is_signed(self, checkpoint: Checkpoint) -> bool:
        return any(is_signed(checkpoint, key) for key in self._keys)

    def _found(self, one: Unreadable) -> None:
        self._report.findings.append(Finding(one.chain, one.seq, one.what))


class _Walk:
    """Along one chain."""

    def __init__(self, chain: str, signed: dict[int, Checkpoint], report: Report, said: _Said) -> None:
        self.chain = chain
        self.first: Head | None = None
        self.last: Head | None = None
        self.hashes: dict[int, str] = {}
        """At the ends of batches, and in the places that anchors speak of."""
        self._signed = signed
        self._places = said.places_in(chain)
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
        if record.seq < 1:
            self._found(record.seq, "added: no chain has such a place")
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
        if record.seq in self._places:
            self.hashes[record.seq] = here.hash
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
            body = strict_json(record.body)
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
    try:
        time = stamp(record.at)
    except OverflowError:  # a year in which UTC is none
        return False
    return body.get("at") == time and all(body.get(name) == getattr(record, name) for name in names)


class _Said:
    """What chains have said about where others end, anchors about all of them, and what was pruned."""

    def __init__(self) -> None:
        self._heads: defaultdict[str, dict[Head, str]] = defaultdict(dict)
        self._pruned: dict[str, Head] = {}
        self._lost: dict[str, int] = {}
        self._missing: dict[tuple[str, str], Missing] = {}

    def by_other(self, head: Head, source: str) -> None:
        self._heads[head.chain].setdefault(head, source)

    def places_in(self, chain: str) -> set[int]:
        """Of which somebody has said something before the chain is read."""
        return {head.seq for head in self._heads.get(chain, ())}

    def missing(self) -> list[Missing]:
        return [self._missing[place] for place in sorted(self._missing)]

    def by_record(self, chain: str, record: Record, body: dict[str, Any]) -> None:
        if record.kind not in ("witness", "pruned", "restored"):
            return
        place = f"record {record.seq} of chain {chain}"
        for head in heads_of(body):
            if record.kind == "witness":
                self.by_other(head, place)
                continue
            if record.kind == "pruned" and head.seq > self._pruned.get(head.chain, Head(head.chain, 0, "")).seq:
                self._pruned[head.chain] = head
            if record.kind == "restored":
                self._lost[head.chain] = max(head.seq, self._lost.get(head.chain, 0))
            known = self._missing.get((head.chain, record.kind))
            if known is None or head.seq > known.seq:
                self._missing[head.chain, record.kind] = Missing(head.chain, head.seq, record.kind, place)

    def contradictions(self, walks: dict[str, _Walk], signed: dict[str, dict[int, Checkpoint]]) -> Iterator[Finding]:
        for chain, one in walks.items():
            assert one.first is not None
            if one.first.seq > 1 and not self._may_begin_after(chain, one.first.seq - 1, signed):
                yield Finding(chain, 1, f"missing up to {one.first.seq - 1}: not pruned by a record of the log")
        for chain, heads in self._heads.items():
            pruned, walk = self._pruned.get(chain), walks.get(chain)
            for head, source in heads.items():
                if pruned is not None and head.seq <= pruned.seq:
                    continue
                end = walk.last.seq if walk is not None and walk.last is not None else 0
                if end < head.seq <= self._lost.get(chain, 0):
                    continue
                if finding := _contradiction(walk, head, source):
                    yield finding
                    break  # one of a kind says it

    def _may_begin_after(self, chain: str, seq: int, signed: dict[str, dict[int, Checkpoint]]) -> bool:
        pruned, checkpoint = self._pruned.get(chain), signed.get(chain, {}).get(seq)
        return pruned is not None and pruned.seq == seq and checkpoint is not None and checkpoint.hash == pruned.hash


def _contradiction(walk: _Walk | None, head: Head, source: str) -> Finding | None:
    if walk is None or walk.last is None:
        return Finding(head.chain, 0, f"the chain is gone: {source} knows it up to {head.seq}")
    if head.seq > walk.last.seq:
        return Finding(head.chain, walk.last.seq + 1, f"cut off: {source} knows the chain up to {head.seq}")
    if walk.hashes.get(head.seq, head.hash) != head.hash:
        return Finding(head.chain, head.seq, f"changed: {source} knows another record here")
    return None
