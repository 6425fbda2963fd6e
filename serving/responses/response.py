"""A response that is kept, and where.

queued ─▶ in_progress ─▶ completed | incomplete | failed | cancelled

Only background responses are kept before they have ended. The process that works on one says again and again that it
lives; when it has not until `held_until`, the response is `failed`, and stays so whatever that process still brings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from serving.errors import InvalidRequest, ServingError
from serving.protocol.responses.answer import Status

OPEN: tuple[Status, ...] = ("queued", "in_progress")
ANSWERED: tuple[Status, ...] = ("completed", "incomplete")
"""Those that a conversation can go on from."""


class UnknownResponse(ServingError):
    status, kind, code = 404, "invalid_request_error", "response_not_found"
    default_message = "There is no response of this id. It may have been deleted, have expired, or was never kept."


class UnknownPrevious(InvalidRequest):
    """OpenAI's status and code."""

    code = "previous_response_not_found"
    default_message = (
        "The previous response, or one before it, was not found. It may have been deleted, have expired, or was never "
        "kept. Send the whole conversation in 'input' instead."
    )


class KeepingNotAllowed(InvalidRequest):
    code = "storage_not_allowed"
    default_message = (
        "Responses of this tenant are not kept, so 'store' and 'background' cannot be true. Its administrator can "
        "change that."
    )


class NotInBackground(InvalidRequest):
    code = "response_not_cancellable"
    default_message = "Only responses that were created with 'background' can be cancelled."


class TooManyResponses(InvalidRequest):
    """400, not 429: an SDK would repeat a 429 in seconds."""

    code = "response_limit_exceeded"


@dataclass(frozen=True, slots=True)
class Kept:
    """content: sealed. previous: the id of the response that it goes on from. held_until: see above."""

    id: str
    tenant: str
    previous: str | None
    status: Status
    background: bool
    created_at: datetime
    expires_at: datetime
    content: bytes
    held_until: datetime | None = None


class ResponseStore(Protocol):
    """Called from several threads at once. Every method may raise StoreUnavailable."""

    def add(self, kept: Kept, *, most: int) -> None:
        """Raises TooManyResponses when so many of the tenant's are kept."""

    def get(self, tenant: str, id: str) -> Kept | None:
        """Also one whose time is over: whoever asks decides."""

    def remove(self, tenant: str, id: str) -> bool: ...

    def is_open(self, id: str) -> bool:
        """Has it neither ended, nor been deleted?"""

    def hold(self, id: str, until: datetime) -> bool:
        """Say that it is worked on: `in_progress`, until then. False: it has ended, or is gone."""

    def end(self, id: str, status: Status, content: bytes | None = None) -> bool:
        """It has come to its end, with this content or the one it has. False: it had ended before, or is gone."""

    def fail_lost(self, now: datetime) -> int:
        """`failed` are those that nobody works on any more; how many."""

    def sweep(self, now: datetime, oldest: Mapping[str, datetime], *, others: datetime) -> int:
        """Delete those whose time is over, and those created by their tenant's `oldest`, or by `others` of tenants that
        are not in it; how many.
        """
