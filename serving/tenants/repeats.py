"""Repeats: requests that are sent again under the same Idempotency-Key, and what was answered the first time. No HTTP.

Two implementations, in memory for one gateway and in Redis for many (redis_repeats.py), are held to
tests/tenants/test_repeats_contract.py. Neither sees a name, a body or an answer: names and bodies are keyed digests,
answers are sealed (gateway/once.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from serving.errors import ServingError


class StillRunning(ServingError):
    """The first of these requests has not ended. A repeat after `retry_after` may find its answer."""

    status, kind, code = 409, "invalid_request_error", "request_in_progress"
    default_message = "A request with this Idempotency-Key is still running. Try again shortly for its answer."


class KeyReused(ServingError):
    """Another request came under the same key. Waiting does not help."""

    status, kind, code = 409, "invalid_request_error", "idempotency_key_reused"
    default_message = (
        "This Idempotency-Key came with another request body before. Use a new key for each request, the same key only "
        "to repeat one."
    )


class RepeatsUnavailable(ServingError):
    """Whether this is a repeat cannot be told, and who sends a key asks not to be served twice."""

    status, kind, code, free = 503, "server_error", "repeats_unavailable", True
    default_message = (
        "Requests with an Idempotency-Key cannot be told from repeats right now. Nothing was generated; try again "
        "shortly."
    )


@dataclass(frozen=True, slots=True)
class Hold:
    """One attempt to be the first. name: of the key, its holder and the path. body: of the request. Both are digests.
    attempt: of this attempt alone.
    """

    name: str
    body: str
    attempt: str


class Repeats(Protocol):
    """A name is held by one attempt at a time; then an answer is kept under it, or nothing.

    A hold whose gateway is gone ends by itself, within a minute.
    """

    async def begin(self, hold: Hold) -> bytes | None:
        """None: the name is held now, until `keep` or `release`. Else the answer that is kept.

        Raises StillRunning, KeyReused, RepeatsUnavailable.
        """
        ...

    async def keep(self, hold: Hold, answer: bytes) -> None:
        """Keep the answer instead of the hold, for the time that was set. Nothing happens if the hold has ended, or if
        the store is away: a repeat then runs again.
        """
        ...

    def release(self, hold: Hold) -> None:
        """Let the next one be the first. A plain call: its caller may be cancelled."""
        ...

    async def start(self) -> None: ...
    async def close(self) -> None: ...
