"""Answers that are kept for repeats: digests of what was asked, the sealed form of what was answered. No routes."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any

from serving.sealing import Sealing, Unsealable
from serving.telemetry.record import RequestRecord
from serving.tenants.callers import Caller
from serving.tenants.repeats import Hold, Repeats, RepeatsUnavailable

_FACTS = (
    "deployment", "adapter", "operation", "stream", "revision", "parameters", "prompt_digest", "answer_digests",
    "spilled_from", "admitted",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """One that was given to its end. facts: what the records say of it besides times and tokens."""

    status: int
    headers: list[tuple[str, str]]
    facts: dict[str, Any]
    body: bytes

    @classmethod
    def of(cls, status: int, headers: list[tuple[bytes, bytes]], record: RequestRecord, body: bytes) -> Answer:
        texts = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        return cls(status, texts, {fact: getattr(record, fact) for fact in _FACTS}, body)

    @classmethod
    def read(cls, data: bytes) -> Answer:
        head, _, body = data.partition(b"\n")
        status, headers, facts = json.loads(head)
        return cls(status, [(name, value) for name, value in headers], facts, body)

    def written(self) -> bytes:
        return json.dumps([self.status, self.headers, self.facts]).encode() + b"\n" + self.body

    def tell(self, record: RequestRecord) -> None:
        """The record of a repeat: as the first one's, but nothing was spent."""
        for fact in _FACTS:
            setattr(record, fact, self.facts[fact])
        record.outcome = "replayed"


class Attempt:
    """To be the first request with an Idempotency-Key."""

    def __init__(self, hold: Hold, tenant: str, repeats: Repeats, sealing: Sealing) -> None:
        self._hold = hold
        self._tenant = tenant
        self._repeats = repeats
        self._sealing = sealing
        self._place = f"repeat {hold.name}"
        self._holds = False

    async def begin(self) -> Answer | None:
        """None: it is the first, until `keep` or `release`. Raises StillRunning, KeyReused, RepeatsUnavailable."""
        sealed = await self._repeats.begin(self._hold)
        if sealed is None:
            self._holds = True
            return None
        try:
            return Answer.read(self._sealing.open(sealed, tenant=self._tenant, place=self._place))
        except Unsealable as error:  # somebody was at it
            raise RepeatsUnavailable from error

    async def keep(self, answer: Answer) -> None:
        sealed = self._sealing.seal(answer.written(), tenant=self._tenant, place=self._place)
        await self._repeats.keep(self._hold, sealed)
        self._holds = False

    def release(self) -> None:
        """Nothing is kept, unless something was. A plain call: its caller may be cancelled."""
        if self._holds:
            self._holds = False
            self._repeats.release(self._hold)


class Answers:
    """secret: for the digests, since keys and bodies may name patients. largest: answer that is kept, in bytes."""

    def __init__(self, repeats: Repeats, sealing: Sealing, secret: bytes, *, largest: int) -> None:
        self.largest = largest
        self._repeats = repeats
        self._sealing = sealing
        self._secret = secret

    def attempt(self, caller: Caller, path: str, key: str, body: bytes, request_id: str) -> Attempt:
        name = self._digest("name", caller.tenant, caller.key_id, path, key)
        hold = Hold(name, body=self._digest("body", name, hashlib.sha256(body).hexdigest()), attempt=request_id)
        return Attempt(hold, caller.tenant, self._repeats, self._sealing)

    def _digest(self, *words: str) -> str:
        return hmac.new(self._secret, json.dumps(["repeats", *words]).encode(), hashlib.sha256).hexdigest()
