"""Traces as the gateway sees them, and traces that are off. Those that are on: spans.py, imported only then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from serving.telemetry.record import RequestRecord


class Trace(Protocol):
    """One request's part of a trace. Its ids are known from the start, for logs and exemplars."""

    @property
    def trace_id(self) -> str: ...

    @property
    def span_id(self) -> str: ...

    @property
    def sampled(self) -> bool: ...

    def ask(self, record: RequestRecord) -> str:
        """An engine is asked now. Gives the `traceparent` that makes its spans children of this."""
        ...

    def end(self, record: RequestRecord) -> None:
        """The request is over, and what it has cost is known. A plain call."""
        ...


class Traces(Protocol):
    def begin(self, traceparents: list[str]) -> Trace:
        """A request has come. traceparents: what its client sent under this name, valid or not."""
        ...

    async def start(self) -> None: ...
    async def close(self) -> None: ...


class NoTrace:
    """Of a request that nobody traces."""

    trace_id = ""
    span_id = ""
    sampled = False

    def ask(self, record: RequestRecord) -> str:
        return ""

    def end(self, record: RequestRecord) -> None: ...


NO_TRACE = NoTrace()


class NoTraces:
    """Traces that are off."""

    def begin(self, traceparents: list[str]) -> Trace:
        return NO_TRACE

    async def start(self) -> None: ...
    async def close(self) -> None: ...


def traces_url(url: str) -> str:
    """Where a receiver of OTLP over HTTP takes traces, from its base URL or as it is."""
    url = url.rstrip("/")
    return url if url.endswith("/v1/traces") else f"{url}/v1/traces"
