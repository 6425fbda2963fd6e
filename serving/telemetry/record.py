"""What is known about one request when it ends: its log line, metrics, usage and audit records. No content."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from serving.telemetry.traces import NO_TRACE, Trace

Stage = Literal["identify", "read", "spill", "reserve", "open", "forward"]
"""Of the README's numbered path. read: the body's arrival. spill: all that a deployment took which handed it on. open:
until an engine's first bytes; of an answer in one piece, all of them.
"""
_OF_ONE_DEPLOYMENT: tuple[Stage, ...] = ("reserve", "open", "forward")
Result = Literal["ok", "left", "limited", "refused", "failed"]
"""What kind of outcome: failed is ours to answer for, limited is 429, refused the request's own fault."""


@dataclass(slots=True)
class RequestRecord:
    """Filled in on the way, read once at the end. Times are seconds since `started` (monotonic)."""

    request_id: str
    method: str
    route: str = "other"
    """Route template, never the raw path."""
    status: int = 500
    outcome: str = "ok"
    """`ok`, `replayed`, `client_left`, or the code of a serving.errors class."""
    tenant: str = ""
    key_id: str = ""
    key_name: str = ""
    address: str = ""
    """Where the client is, as far as proxies tell."""
    key_prefix: str = ""
    """Of the key that was shown, also of one that is not known or not valid any more."""
    deployment: str = ""
    adapter: str = ""
    """Of the deployment's, if one was asked for."""
    revision: str = ""
    """The model's pinned revision or digest."""
    operation: str = ""
    stream: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    estimated: bool = False
    """The engine did not say what it has cost, or not in numbers that can be: some of these are an estimate."""
    cost_micros: int | None = None
    """In millionths of the currency; None: without a price."""
    first_token: float | None = None
    stages: dict[Stage, float] = field(default_factory=dict)
    """When each stage was over, in the order in which they were."""
    duration: float = 0.0
    started: float = field(default_factory=time.perf_counter)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    admitted: bool = False
    """It held a lease: it is in the usage ledger, whatever became of it."""
    parameters: dict[str, Any] = field(default_factory=dict)
    prompt_digest: str = ""
    answer_digests: list[str] = field(default_factory=list)
    rates: Any = None
    """What the x-ratelimit headers of the answer say: a lease or the error instead of one (gateway/ratelimits.py)."""
    spilled_from: str = ""
    """The deployment that was asked, when another one served."""
    spill_error: int = 0
    """The status with which the other one failed too."""
    trace: Trace = NO_TRACE
    reckoning: asyncio.Future[None] | None = None
    """Under way when the request has ended but its tokens are still being asked of the engine."""

    def about(self, deployment: str, operation: str, *, stream: bool, revision: str = "", adapter: str = "") -> None:
        """The request is for this deployment."""
        self.deployment, self.operation, self.stream, self.revision = deployment, operation, stream, revision
        self.adapter = adapter

    @property
    def model(self) -> str:
        """What clients call what was asked for."""
        return f"{self.deployment}:{self.adapter}" if self.adapter else self.deployment

    def spent(self, prompt: int, cached: int, completion: int) -> None:
        """Tokens, final."""
        self.prompt_tokens, self.cached_tokens, self.completion_tokens = prompt, cached, completion

    def passed(self, stage: Stage) -> None:
        """This stage is over now. A spill takes the place of all that the first deployment did."""
        if stage == "spill":
            for one in _OF_ONE_DEPLOYMENT:
                self.stages.pop(one, None)
        self.stages[stage] = self.elapsed()

    def spans(self) -> Iterator[tuple[Stage, float, float]]:
        """Each stage with its beginning and end: one begins where the other ended."""
        began = 0.0
        for stage, ended in self.stages.items():
            yield stage, began, ended
            began = ended

    @property
    def result(self) -> Result:
        if self.outcome == "ok":
            return "ok"
        if self.outcome == "client_left":
            return "left"
        if self.status == 429:
            return "limited"
        return "refused" if 400 <= self.status < 500 else "failed"

    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    @property
    def per_token(self) -> float | None:
        """Time per output token: (end - first) / (tokens - 1), undefined below two tokens."""
        if self.first_token is None or self.completion_tokens < 2:
            return None
        return (self.duration - self.first_token) / (self.completion_tokens - 1)
