"""The audit log as a process writes it: events are taken at once, chained and signed in batches by a thread."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from serving import __version__
from serving.secret_versions import PUBLIC, VersionedSecret
from serving.tenants.audit import (
    AuditEvent,
    AuditUnavailable,
    Chain,
    Checkpoint,
    Head,
    Kind,
    Record,
    Signer,
    hash_of,
    new_chain,
)
from serving.tenants.audit_anchors import Anchors, NoAnchors
from serving.tenants.audit_store import AuditStore, heads_in, statements
from serving.tenants.spool import storable
from serving.tenants.stores import StoreUnavailable
from serving.tenants.writer import BatchWriter

_HIGH_WATER = 50_000  # records; above it a log that should be written is not


class AuditLog:
    """One process's chain. It opens with the first event, so that a process that does nothing leaves no trace.

    secret         Of the keyed digests. seed: of the signing key; in versions, 64 hexadecimal digits, or `public:` and
                   64 for what only verifies still.
    when_away      `refuse`: `check` raises once writing has failed for `grace` seconds. `continue`: it calls
                   on_unwritten instead.
    witness        Seconds between records of where the other chains end.
    on_checkpoint  Told with each witness where this chain is, to be kept elsewhere.
    anchors        Where the newest signed checkpoint of the chain is kept apart from the database, after each writing.
    """

    def __init__(
        self,
        store: AuditStore,
        *,
        secret: VersionedSecret | bytes,
        seed: VersionedSecret | bytes,
        spool: Path,
        anchors: Anchors = NoAnchors(),  # noqa: B008  # it holds nothing
        when_away: Literal["refuse", "continue"] = "refuse",
        grace: float = 5.0,
        flush: float = 1.0,
        witness: float = 60.0,
        on_unwritten: Callable[[], None] = lambda: None,
        on_lost: Callable[[int], None] = lambda count: None,
        on_refused: Callable[[], None] = lambda: None,
        on_checkpoint: Callable[[str, int, str], None] = lambda chain, seq, hash: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._secret = VersionedSecret.of(secret)
        self._signing = VersionedSecret.of(seed.hex() if isinstance(seed, bytes) else seed)
        self._anchors = anchors
        self._when_away = when_away
        self._grace = grace
        self._witness_seconds = witness
        self._on_unwritten = on_unwritten
        self._on_checkpoint = on_checkpoint
        self._clock = clock
        self._now = now
        self._chain = Chain(new_chain(now()))
        self._order = threading.Lock()  # what is chained first is written first
        self._ended = False
        self._written = self._chain.head
        self._witnessed = 0
        self._witnessed_at: float | None = None
        self._writer = BatchWriter[Record](
            self._write,
            encode=_encoded,
            decode=_decoded,
            spool=spool,
            flush=flush,
            on_lost=on_lost,
            on_refused=on_refused,
            before=self._witness,
            clock=clock,
        )

    @property
    def public_key(self) -> str:
        """hex; of the key that signs now. What a verifier must have from elsewhere than the log."""
        return public_key_of(self._signing.writing.text)

    @property
    def public_keys(self) -> tuple[str, ...]:
        """hex, the newest first: of all keys that have signed this installation's log."""
        return tuple(public_key_of(version.text) for version in self._signing.versions)

    @property
    def backlog(self) -> int:
        return self._writer.backlog

    @property
    def bad_files(self) -> int:
        """Damaged files in the spool. Looks at the disk."""
        return self._writer.bad_files

    def check(self) -> None:
        """Raise AuditUnavailable when nothing may be done, because it could not be audited."""
        since = self._writer.failing_since if self._writer.failing_since is not None else self._writer.busy_since
        away = since is not None and self._clock() - since > self._grace
        if not away and self._writer.backlog < _HIGH_WATER:
            return
        if self._when_away == "refuse":
            raise AuditUnavailable
        self._on_unwritten()

    def record(self, event: AuditEvent) -> None:
        """Chain an event and hand it over to be written. A plain call that waits for nothing."""
        who = {"tenant": event.tenant, "actor": event.actor, "request": event.request_id}
        self._append(event.kind, event.at, dict(event.details), **who)

    def digest(self, data: bytes) -> str:
        """hex HMAC-SHA256: the same data has the same, and without the secret it says nothing."""
        return hmac.new(self._secret.writing.value, data, hashlib.sha256).hexdigest()

    def digests(self, data: bytes) -> tuple[str, ...]:
        """One for each version of the secret: under one of them the log knows this data, if it does."""
        return tuple(hmac.new(v.value, data, hashlib.sha256).hexdigest() for v in self._secret.versions)

    def digester(self) -> hmac.HMAC:
        """For data that comes in pieces."""
        return hmac.new(self._secret.writing.value, digestmod=hashlib.sha256)

    async def start(self) -> None:
        await asyncio.to_thread(self.begin)

    async def close(self) -> None:
        await asyncio.to_thread(self.end)

    def begin(self) -> None:
        """Start writing, beginning with what an earlier process could not deliver."""
        self._writer.start()

    def end(self) -> None:
        """Close the chain and write what is left, or keep it on disk."""
        if self._chain.head.seq:
            self._append("closed", self._now(), {})
        self._writer.close()

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until what was recorded is written."""
        return self._writer.flush(timeout)

    def prune(self, before: datetime, *, by: Sequence[str] = ()) -> int:
        """Remove records that are older, from the beginning of each chain up to a checkpoint; how many. Blocks.

        What is removed is stated first, in a record that is signed as all are: how far each chain, with the hash there,
        which stands for all that went, and who decided. A statement that goes itself is repeated in the new one.
        Raises StoreUnavailable.
        """
        heads = self._store.prunable(before)
        if not heads:
            return 0
        upto = {head.chain: head for head in heads}
        for kind in ("pruned", "restored"):
            for record in statements(self._store, kind):
                if record.chain in upto and record.seq <= upto[record.chain].seq:
                    for head in heads_in(record.body):
                        if head.seq > upto.get(head.chain, Head(head.chain, 0, "")).seq:
                            upto[head.chain] = head
        stated = [[head.chain, head.seq, head.hash] for head in upto.values()]
        self._append("pruned", self._now(), {"before": before.isoformat(), "by": list(by), "heads": stated})
        if not self.flush():
            raise StoreUnavailable
        removed = self._store.prune(heads)
        ends = {head.chain for head in self._store.heads()}
        for head in heads:
            if head.chain not in ends:
                self._anchors.forget(head.chain)
        return removed

    def restored(self, reason: str) -> list[Head]:
        """State what the anchors know and the database does not, as after a restore from a backup: it is missing by
        this record from now on, and not found missing. The heads that are stated. Blocks. Raises StoreUnavailable.
        """
        known = {head.chain: head.seq for head in self._store.heads()}
        kept = [anchor for anchor in self._anchors.all() if isinstance(anchor, Checkpoint)]
        lost = [Head(one.chain, one.seq, one.hash) for one in kept if one.seq > known.get(one.chain, 0)]
        details = {"reason": reason, "heads": [[head.chain, head.seq, head.hash] for head in lost]}
        self._append("restored", self._now(), details)
        if not self.flush():
            raise StoreUnavailable
        return lost

    def _signer(self) -> Signer:
        return Signer(bytes.fromhex(self._signing.writing.text))

    def _append(self, kind: Kind, at: datetime, details: dict[str, Any], **who: str) -> None:
        with self._order:
            if self._ended and kind == "witness":
                return  # the writer's last round; nothing comes after "closed"
            if not self._chain.head.seq:
                opened = {"version": __version__, "public_key": self.public_key}
                self._writer.put(self._chain.append("opened", self._now(), opened))
            self._writer.put(self._chain.append(kind, at, details, **who))
            self._ended = kind == "closed"

    def _witness(self) -> None:
        """Record where the other chains end, and tell where ours does. In the writer's thread, before it writes."""
        head = self._chain.head
        due = self._witnessed_at is None or self._clock() - self._witnessed_at >= self._witness_seconds
        if not due or head.seq <= self._witnessed:
            return
        heads = [[other.chain, other.seq, other.hash] for other in self._store.heads() if other.chain != head.chain]
        self._append("witness", self._now(), {"heads": heads})
        self._witnessed, self._witnessed_at = self._chain.head.seq, self._clock()
        if self._written.seq:
            self._on_checkpoint(self._written.chain, self._written.seq, self._written.hash)

    def _write(self, records: Sequence[Record]) -> None:
        # Of more than one chain only when an earlier process left some. The same records give the same checkpoint, so
        # that a batch may come again.
        for _, group in groupby(records, key=lambda record: record.chain):
            one = list(group)
            head = Head(one[-1].chain, one[-1].seq, one[-1].hash)
            checkpoint = self._signer().sign(head, one[-1].at)
            self._store.append(one, checkpoint)
            self._anchors.keep(checkpoint)
            if head.chain == self._chain.id and head.seq > self._written.seq:
                self._written = head


class NoAudit:
    """An audit log that is off."""

    backlog = bad_files = 0

    def check(self) -> None: ...
    def record(self, event: AuditEvent) -> None: ...

    def digest(self, data: bytes) -> str:
        return ""

    def digester(self) -> hmac.HMAC:
        raise NotImplementedError("nothing is digested when nothing is audited")

    async def start(self) -> None: ...
    async def close(self) -> None: ...


_record_of = storable(Record)


def _encoded(record: Record) -> dict[str, Any]:
    return asdict(record) | {"at": record.at.isoformat()}


def _decoded(value: Any) -> Record:
    """Raises ValueError, TypeError or LookupError for what is none."""
    record = _record_of(value | {"at": datetime.fromisoformat(value["at"])})
    if hash_of(record.body) != record.hash:
        raise ValueError("the record was changed")
    return record


def public_key_of(signing: str) -> str:
    """Of a version of the signing key, as its secret is written: 64 hexadecimal digits, or `public:` and 64."""
    return signing.removeprefix(PUBLIC) if signing.startswith(PUBLIC) else Signer(bytes.fromhex(signing)).public_key
