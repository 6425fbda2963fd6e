"""What is known about one request when it ends: the source of its log line and its metrics. No content."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class RequestRecord:
    """Filled in on the way, read once at the end. Times are seconds since `started` (monotonic)."""

    request_id: str
    method: str
    route: str = "other"
    """Route template, never the raw path."""
    status: int = 500
    outcome: str = "ok"
    """`ok`, `client_left`, or the code of a serving.errors class."""
    tenant: str = ""
    key_id: str = ""
    deployment: str = ""
    operation: str = ""
    stream: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    first_token: float | None = None
    duration: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def about(self, deployment: str, operation: str, *, stream: bool) -> None:
        """The request is for this deployment."""
        self.deployment, self.operation, self.stream = deployment, operation, stream

    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    @property
    def per_token(self) -> float | None:
        """Time per output token: (end - first) / (tokens - 1), undefined below two tokens."""
        if self.first_token is None or self.completion_tokens < 2:
            return None
        return (self.duration - self.first_token) / (self.completion_tokens - 1)
