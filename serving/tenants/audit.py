"""The audit log's records: what one says, how it is chained to the one before, how a chain is signed. Pure.

Every process that serves writes a chain of its own, so that none waits for another. A record's body is canonical JSON
and holds the hash of its predecessor; its hash is SHA-256 of the body. Each batch that is written ends with a
checkpoint: the last record's hash, signed with Ed25519. So nothing in a chain can be changed, taken out or moved
without the key, and what is cut off at its end contradicts the heads that other chains have recorded ("witness").
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from serving.errors import ServingError

EventKind = Literal["inference", "admin", "access"]
Kind = Literal["inference", "admin", "access", "opened", "witness", "pruned", "restored", "closed"]
NO_PREDECESSOR = "0" * 64
CHAIN_NAME = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{8}")


class AuditUnavailable(ServingError):
    """The audit log cannot be written, and the server is set to serve nothing that is not audited."""

    status, kind, code = 503, "server_error", "audit_unavailable"
    default_message = "The audit log cannot be written right now. Nothing was generated; try again shortly."

    def __init__(self, message: str = "") -> None:
        super().__init__(message, retry_after=2)


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """What happened. No content: details are names, numbers, keyed digests. at: aware."""

    kind: EventKind
    at: datetime
    tenant: str
    actor: str
    request_id: str
    details: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """A link of a chain. body: canonical JSON, of which kind, at, tenant and request_id are repeated for searching."""

    chain: str
    seq: int
    at: datetime
    kind: str
    tenant: str
    request_id: str
    body: str
    hash: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The writer's word that its chain ended with this record at that time. signature: hex."""

    chain: str
    seq: int
    at: datetime
    hash: str
    signature: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something in the place of a record, checkpoint or anchor that is none. chain empty, seq 0: so far as known."""

    chain: str
    seq: int
    what: str


@dataclass(frozen=True, slots=True)
class Head:
    """Where a chain ends."""

    chain: str
    seq: int
    hash: str


def strict_json(text: str) -> Any:
    """What one of our own texts says. Raises ValueError, also for what we never write: a name that comes twice, NaN,
    nesting without end.
    """
    try:
        return json.loads(text, object_pairs_hook=_without_twins, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("too deep") from None


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name comes twice")
    return values


def _no_number(name: str) -> Any:
    raise ValueError("no number")


def heads_of(body: Any) -> Iterator[Head]:
    """The heads that a record names, as far as they are what they should be. Of a body that somebody changed others may
    be there: its hash says that.
    """
    details = body.get("details") if isinstance(body, dict) else None
    heads = details.get("heads") if isinstance(details, dict) else None
    for head in heads if isinstance(heads, list) else ():
        if isinstance(head, list) and len(head) == 3:
            chain, seq, hash = head
            if isinstance(chain, str) and isinstance(hash, str) and isinstance(seq, int) and not isinstance(seq, bool):
                yield Head(chain, seq, hash)


def new_chain(now: datetime) -> str:
    """An id that sorts by time."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"


def stamp(time: datetime) -> str:
    """ISO 8601 in UTC, always with microseconds, so that one time has one spelling."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def hash_of(body: str) -> str:
    return hashlib.sha256(body.encode(errors="surrogatepass")).hexdigest()  # the text of a forged record may be any


class Chain:
    """Gives each record its place. Belongs to one writer."""

    def __init__(self, id: str) -> None:
        self.id = id
        self._seq = 0
        self._hash = NO_PREDECESSOR

    @property
    def head(self) -> Head:
        return Head(self.id, self._seq, self._hash)

    def append(
        self,
        kind: Kind,
        at: datetime,
        details: Mapping[str, Any],
        *,
        tenant: str = "",
        actor: str = "",
        request: str = "",
    ) -> Record:
        """The next record. Raises TypeError or ValueError for details that are no JSON, and then appends nothing."""
        fields = {
            "chain": self.id,
            "seq": self._seq + 1,
            "at": stamp(at),
            "kind": kind,
            "tenant": tenant,
            "actor": actor,
            "request_id": request,
            "details": details,
            "prev": self._hash,
        }
        body = _canonical(fields)
        self._seq, self._hash = self._seq + 1, hash_of(body)
        return Record(self.id, self._seq, at, kind, tenant, request, body, self._hash)


def _canonical(fields: dict[str, Any]) -> str:
    """Raises TypeError or ValueError for what is no JSON."""
    body = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    try:
        body.encode()
    except UnicodeEncodeError:  # half a surrogate, which JSON can say and UTF-8 cannot
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return body


def signed_text(chain: str, seq: int, hash: str, at: datetime) -> bytes:
    return f"clinserve-audit-v1\n{chain}\n{seq}\n{hash}\n{stamp(at)}".encode(errors="surrogatepass")


class Signer:
    """seed: 32 bytes."""

    def __init__(self, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)

    @property
    def public_key(self) -> str:
        """hex; what a verifier must have from elsewhere than the log."""
        return self._key.public_key().public_bytes_raw().hex()

    def sign(self, head: Head, at: datetime) -> Checkpoint:
        signature = self._key.sign(signed_text(head.chain, head.seq, head.hash, at)).hex()
        return Checkpoint(head.chain, head.seq, at, head.hash, signature)


def is_signed(checkpoint: Checkpoint, public_key: str) -> bool:
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        text = signed_text(checkpoint.chain, checkpoint.seq, checkpoint.hash, checkpoint.at)
        signature = bytes.fromhex(checkpoint.signature)
        key.verify(signature, text)
    except (InvalidSignature, ValueError, OverflowError):  # a year in which UTC is none
        return False
    return signature.hex() == checkpoint.signature  # not the same in other letters
