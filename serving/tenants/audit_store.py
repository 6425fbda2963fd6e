"""Where the audit log is kept: the protocol, and its form in memory. It grows at its end, is pruned from its start."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from serving.tenants.audit import Checkpoint, Head, Record, Unreadable, heads_of, strict_json
from serving.tenants.paging import LONGEST_PAGE, Page, PageRequest, bad_cursor


class RecordConflict(Exception):
    """Another record stands in this place of the chain: two writers, or somebody who changed the log."""


@dataclass(frozen=True, slots=True)
class AuditQuery:
    """Which records. since inclusive, until exclusive; None: no bound. digest: of a prompt or an answer."""

    tenant: str | None = None
    kind: str | None = None
    request_id: str | None = None
    digest: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    page: PageRequest = field(default_factory=PageRequest)


class AuditStore(Protocol):
    """Called from several threads at once. Every method may raise `StoreUnavailable`."""

    def append(self, records: Sequence[Record], checkpoint: Checkpoint) -> None:
        """Keep records and the checkpoint at their end, all or nothing. The same ones again change nothing; others in
        their place raise RecordConflict.
        """

    def heads(self) -> list[Head]:
        """Where each chain ends, in their order."""

    def records(self) -> Iterator[Record | Unreadable]:
        """All, by chain and place; reads a piece at a time. Whatever somebody put into a row, it raises nothing."""

    def checkpoints(self) -> Iterator[Checkpoint | Unreadable]:
        """Likewise."""

    def find(self, query: AuditQuery) -> Page[Record]:
        """The records that fit, the newest first."""

    def hashes_at(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], str]:
        """The hashes of the records in these places, as far as there are records."""

    def after(self, chain: str, seq: int, limit: int) -> list[Record]:
        """The next records of a chain, at most so many."""

    def prunable(self, before: datetime) -> list[Head]:
        """The last checkpoint of each chain such that all records up to it are older."""

    def prune(self, heads: Sequence[Head]) -> int:
        """Remove the records up to these places and the checkpoints before them; how many records there were."""


class MemoryAudit:
    """A log that ends with the process."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, int], Record] = {}
        self._checkpoints: dict[tuple[str, int], Checkpoint] = {}
        self._lock = threading.Lock()

    def append(self, records: Sequence[Record], checkpoint: Checkpoint) -> None:
        with self._lock:
            if any(self._records.get((r.chain, r.seq), r) != r for r in records):
                raise RecordConflict
            self._records.update({(r.chain, r.seq): r for r in records})
            self._checkpoints.setdefault((checkpoint.chain, checkpoint.seq), checkpoint)

    def heads(self) -> list[Head]:
        with self._lock:
            last = {chain: max(seq for c, seq in self._records if c == chain) for chain, _ in self._records}
            return [Head(chain, seq, self._records[chain, seq].hash) for chain, seq in sorted(last.items())]

    def records(self) -> Iterator[Record]:
        with self._lock:
            yield from [self._records[place] for place in sorted(self._records)]

    def checkpoints(self) -> Iterator[Checkpoint]:
        with self._lock:
            yield from [self._checkpoints[place] for place in sorted(self._checkpoints)]

    def find(self, query: AuditQuery) -> Page[Record]:
        with self._lock:
            found = [record for record in self._records.values() if fits(record, query)]
        found.sort(key=lambda r: (r.at, r.chain, r.seq), reverse=True)
        if query.page.after is not None:
            place = place_of(query.page.after)
            found = [record for record in found if (record.at, record.chain, record.seq) < place]
        page = tuple(found[: query.page.limit])
        return Page(page, cursor_for(page[-1]) if len(found) > len(page) else None)

    def hashes_at(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], str]:
        with self._lock:
            return {place: self._records[place].hash for place in places if place in self._records}

    def after(self, chain: str, seq: int, limit: int) -> list[Record]:
        with self._lock:
            places = [place for place in sorted(self._records) if place[0] == chain and place[1] > seq]
            return [self._records[place] for place in places[:limit]]

    def prunable(self, before: datetime) -> list[Head]:
        with self._lock:
            young: dict[str, int] = {}
            for (chain, seq), record in self._records.items():
                if record.at >= before:
                    young[chain] = min(seq, young.get(chain, seq))
            old = [c for c in self._checkpoints.values() if c.seq < young.get(c.chain, c.seq + 1)]
            last = {c.chain: c for c in sorted(old, key=lambda c: c.seq) if (c.chain, c.seq) in self._records}
            return [Head(c.chain, c.seq, c.hash) for c in last.values()]

    def prune(self, heads: Sequence[Head]) -> int:
        with self._lock:
            upto = {head.chain: head.seq for head in heads}
            old = [place for place in self._records if place[1] <= upto.get(place[0], 0)]
            for place in old:
                del self._records[place]
            for place in [p for p in self._checkpoints if p[1] < upto.get(p[0], 0)]:
                del self._checkpoints[place]
            return len(old)


def stated_missing(store: AuditStore) -> dict[str, int]:
    """By chain, up to which record the log itself says that records are missing. Raises StoreUnavailable."""
    stated: dict[str, int] = {}
    for kind in ("pruned", "restored"):
        for record in statements(store, kind):
            for head in heads_in(record.body):
                stated[head.chain] = max(head.seq, stated.get(head.chain, 0))
    return stated


def statements(store: AuditStore, kind: str) -> Iterator[Record]:
    page = PageRequest(LONGEST_PAGE)
    while True:
        found = store.find(AuditQuery(kind=kind, page=page))
        yield from found.items
        if found.after is None:
            return
        page = PageRequest(LONGEST_PAGE, found.after)


def heads_in(body: str) -> list[Head]:
    """Of a witness or statement, those that are what they should be; none of a body that was changed."""
    try:
        return list(heads_of(strict_json(body)))
    except ValueError:
        return []


def fits(record: Record, query: AuditQuery) -> bool:
    return (
        query.tenant in (None, record.tenant)
        and query.kind in (None, record.kind)
        and query.request_id in (None, record.request_id)
        and (query.digest is None or f'"{query.digest}"' in record.body)
        and (query.since is None or record.at >= query.since)
        and (query.until is None or record.at < query.until)
    )


def cursor_for(record: Record) -> str:
    return f"{record.at.isoformat()}/{record.chain}/{record.seq}"


def place_of(cursor: str) -> tuple[datetime, str, int]:
    """Raises InvalidRequest."""
    try:
        at, chain, seq = cursor.split("/")
        time = datetime.fromisoformat(at)
        place = int(seq)
        if not 0 < place < 2**63:
            raise ValueError
    except ValueError:
        raise bad_cursor() from None
    if time.tzinfo is None:
        raise bad_cursor()
    return time, chain, place
