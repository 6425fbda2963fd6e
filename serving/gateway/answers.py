"""Answers that are kept for repeats: digests of what was asked, the sealed form of what was answered. No routes."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from serving.sealing import Sealing, Unsealable
from serving.secret_versions import SecretVersion, VersionedSecret
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

    def __init__(
        self, hold: Hold, tenant: str, repeats: Repeats, sealing: Sealing, *, earlier: tuple[Hold, ...] = ()
    ) -> None:
        """earlier: how the first one would be named that began under a version of the secret before this one."""
        self._hold = hold
        self._earlier = earlier
        self._tenant = tenant
        self._repeats = repeats
        self._sealing = sealing
        self._place = f"repeat {hold.name}"
        self._holds = False

    async def begin(self) -> Answer | None:
        """None: it is the first, until `keep` or `release`. Raises StillRunning, KeyReused, RepeatsUnavailable."""
        for hold in self._earlier:
            sealed = await self._repeats.begin(hold)
            if sealed is not None:
                return self._opened(sealed, hold)
            self._repeats.release(hold)
        sealed = await self._repeats.begin(self._hold)
        if sealed is None:
            self._holds = True
            return None
        return self._opened(sealed, self._hold)

    def _opened(self, sealed: bytes, hold: Hold) -> Answer:
        try:
            return Answer.read(self._sealing.open(sealed, tenant=self._tenant, place=f"repeat {hold.name}"))
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
    """secret: for the digests, since keys and bodies may name patients. largest: answer that is kept, in bytes.
    seconds: for which it is; so long, repeats of what began under an earlier version of the secret are looked for.
    """

    def __init__(
        self,
        repeats: Repeats,
        sealing: Sealing,
        secret: VersionedSecret | bytes,
        *,
        largest: int,
        seconds: float = 3600.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.largest = largest
        self._repeats = repeats
        self._sealing = sealing
        self._secret = VersionedSecret.of(secret)
        self._seconds = timedelta(seconds=seconds)
        self._now = now

    def attempt(self, caller: Caller, path: str, key: str, body: bytes, request_id: str) -> Attempt:
        writing = self._secret.writing

        def hold(version: SecretVersion) -> Hold:
            name = _digest(version, "name", caller.tenant, caller.key_id, path, key)
            digest = _digest(version, "body", name, hashlib.sha256(body).hexdigest())
            return Hold(name, body=digest, attempt=request_id)

        earlier: tuple[Hold, ...] = ()
        if writing.writes_from is not None and self._now() - writing.writes_from < self._seconds:
            earlier = tuple(hold(one) for one in self._secret.versions if one.number < writing.number)
        return Attempt(hold(writing), caller.tenant, self._repeats, self._sealing, earlier=earlier)


def _digest(version: SecretVersion, *words: str) -> str:
    return hmac.new(version.value, json.dumps(["repeats", *words]).encode(), hashlib.sha256).hexdigest()
