"""What a batch is, and where it is kept. States as OpenAI and Azure spell them (azure-wire-format, 3.2):

validating ─▶ in_progress ─▶ finalizing ─▶ completed
    │              │             └───────▶ expired      what was not run in time is in the error file
    ▼              ▼
  failed       cancelling ──────────────▶ cancelled     likewise

Failed is also a batch that cannot go on: its input is gone, or its results were sealed with another secret.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, get_args

from serving.errors import InvalidRequest, ServingError
from serving.tenants.callers import Caller
from serving.tenants.paging import Page, PageRequest

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
ENDPOINTS: tuple[Endpoint, ...] = get_args(Endpoint)
OPEN: tuple[Status, ...] = ("validating", "in_progress", "finalizing", "cancelling")
"""A worker has something to do."""


class UnknownBatch(ServingError):
    status, kind, code = 404, "invalid_request_error", "batch_not_found"
    default_message = "There is no batch of this id. GET /v1/batches lists them."


class TooManyBatches(InvalidRequest):
    """400, not 429: the end of a batch is minutes or hours away, and an SDK would repeat a 429 in seconds."""

    code = "batch_limit_exceeded"


class BatchEnded(InvalidRequest):
    code = "batch_ended"
    default_message = "The batch has ended, or its results are being written: it cannot be cancelled any more."


class ClaimLost(Exception):
    """Another worker has the batch now; whatever this one still does must not count."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a batch failed. line: of the input file, from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """owner: who submitted it; its lines are that caller's requests. endpoint: as the client wrote it. total,
    completed, failed: lines. output_keep: seconds until its files expire; None: as the server has it.
    """

    id: str
    owner: Caller
    endpoint: str
    input_file_id: str
    created_at: datetime
    expires_at: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)
    output_keep: int | None = None
    status: Status = "validating"
    model: str | None = None
    errors: Sequence[Problem] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: datetime | None = None
    finalizing_at: datetime | None = None
    completed_at: datetime | None = None
    failed_at: datetime | None = None
    expired_at: datetime | None = None
    cancelling_at: datetime | None = None
    cancelled_at: datetime | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's hold on a batch. fence: grows with each holder, so that a late write of an earlier one is refused."""

    batch_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one line. text: its line of the output or error file, sealed. failed: it is for the error file."""

    line: int
    failed: bool
    text: bytes
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0


class BatchStore(Protocol):
    """Called from several threads at once. Every method may raise StoreUnavailable."""

    def add(self, batch: Batch, *, most: int) -> None:
        """Raises TooManyBatches when so many of the tenant's are open."""

    def get(self, tenant: str, id: str) -> Batch | None: ...

    def page(self, tenant: str, page: PageRequest) -> Page[Batch]:
        """The newest first. The cursor is the last batch's id."""

    def uses(self, tenant: str, file_id: str) -> bool:
        """Is it the input of an open batch?"""

    def cancel(self, tenant: str, id: str, now: datetime) -> Batch | None:
        """The batch, now `cancelling` if it was validating or in progress; None if there is none."""

    def claim(self, now: datetime, until: datetime, *, but: Collection[str] = ()) -> tuple[Batch, Claim] | None:
        """Take an open batch that nobody holds, or whose holder's time is over: of the tenant with the fewest held, so
        that one with many does not keep the others waiting, the oldest. but: none of these ids.
        """

    def renew(self, claim: Claim, until: datetime) -> Batch:
        """Hold on, also when its time was over and nobody took the batch. Raises ClaimLost."""

    def release(self, claim: Claim) -> None:
        """Let another worker take it at once. Nothing happens when the claim is lost."""

    def move(self, claim: Claim, *before: Status, **values: Any) -> Batch:
        """Set fields of Batch, if it is in one of these states; the batch as it then is. Raises ClaimLost."""

    def end(self, claim: Claim, **values: Any) -> Batch:
        """Set them in whatever state, and forget the results; both or none. Raises ClaimLost."""

    def add_results(self, claim: Claim, results: Sequence[Result]) -> None:
        """Keep them and count them, all or none; one whose line is already there does not count again.

        Raises ClaimLost.
        """

    def finished_lines(self, batch_id: str) -> set[int]: ...

    def results(self, batch_id: str, *, failed: bool) -> Iterator[Result]:
        """By line, read a piece at a time."""
