"""Traces that are on. Of each request two spans, by OpenTelemetry's conventions for HTTP and for GenAI:

    POST /v1/chat/completions      server   the client's child, if it sent a traceparent; its events are the stages
      └─ chat clinical-demo        client   the engine's part, one for each deployment that was asked
           └─ llm_request          server   vLLM's own, sent by the replica

Attributes are what the record holds: names, counts, numbers. There is no way to add content. Imported only where traces
are on; only telemetry/ imports opentelemetry.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serving.telemetry.outbox import OnSpans, Outbox, hush
from serving.telemetry.record import RequestRecord
from serving.telemetry.traces import Trace, traces_url

_OPERATIONS = {"completions": "text_completion"}
_PARAMETERS = {
    "n": "gen_ai.request.choice.count",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
}
_propagator = TraceContextTextMapPropagator()


def otlp_exporter(url: str) -> SpanExporter:
    """To a receiver of OTLP over HTTP; url as in settings. Its headers are in OTEL_EXPORTER_OTLP_HEADERS."""
    hush("opentelemetry.exporter")
    return OTLPSpanExporter(endpoint=traces_url(url))


class SpanTraces:
    """ratio: the share of requests that is traced; of those whose client says no, none. trust_clients: of those whose
    client says yes, all. size: spans that wait to be sent. on_spans: told what became of spans, and of how many.
    """

    def __init__(
        self,
        exporters: Sequence[SpanExporter],
        *,
        version: str,
        ratio: float,
        trust_clients: bool,
        size: int,
        on_spans: OnSpans,
    ) -> None:
        resource = Resource.create({"service.name": "clinserve-gateway", "service.version": version})
        # Not the process's global provider: what else is installed here has no business in these traces.
        drawn = Drawn(ratio)
        sampler = ParentBased(drawn, remote_parent_sampled=ALWAYS_ON if trust_clients else drawn)
        self._provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        for exporter in exporters:
            self._provider.add_span_processor(Outbox(exporter, size=size, on_spans=on_spans))
        self._tracer = self._provider.get_tracer("clinserve", version)

    def begin(self, traceparents: list[str]) -> Trace:
        # Only the traceparent: tracestate and baggage are a client's own text.
        carrier = {"traceparent": traceparents[0]} if len(traceparents) == 1 else {}
        return RequestTrace(self._tracer, _propagator.extract(carrier, Context()))

    async def start(self) -> None: ...

    async def close(self) -> None:
        await asyncio.to_thread(self._provider.shutdown)


class Drawn(Sampler):
    """Takes a share by lot. Not by the trace's id, as TraceIdRatioBased does: a client chooses its ids, and could
    choose ones that are always taken. draw: a number from 0 to 1.
    """

    def __init__(self, share: float, draw: Callable[[], float] = random.random) -> None:
        self._share = share
        self._draw = draw

    def should_sample(self, *args: object, **kwargs: object) -> SamplingResult:
        return SamplingResult(Decision.RECORD_AND_SAMPLE if self._draw() < self._share else Decision.DROP)

    def get_description(self) -> str:
        return f"Drawn({self._share})"


class RequestTrace:
    """A Trace, and its spans until they end."""

    __slots__ = ("_began", "_engine", "_span", "_tracer", "sampled", "span_id", "trace_id")

    def __init__(self, tracer: api.Tracer, parent: Context) -> None:
        self._tracer = tracer
        self._began = time.time_ns()
        self._span = tracer.start_span("request", parent, SpanKind.SERVER, start_time=self._began)
        self._engine: api.Span | None = None
        context = self._span.get_span_context()
        self.trace_id = f"{context.trace_id:032x}"
        self.span_id = f"{context.span_id:016x}"
        self.sampled = context.trace_flags.sampled

    def ask(self, record: RequestRecord) -> str:
        if self._engine is not None:  # of the deployment that handed the request on
            self._end_engine(record, record.stages["spill"])
        name = f"{_operation(record)} {record.deployment}"
        asked = self._at(record.elapsed())
        here = api.set_span_in_context(self._span)
        self._engine = self._tracer.start_span(name, here, SpanKind.CLIENT, start_time=asked)
        if self.sampled:
            self._engine.set_attributes(dict(_engine_attributes(record)))
        context = self._engine.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def end(self, record: RequestRecord) -> None:
        if not self.sampled:
            return
        if self._engine is not None:
            self._end_engine(record, list(record.stages.values())[-1])
        self._span.update_name(f"{record.method} {record.route}")
        for stage, _, ended in record.spans():
            self._span.add_event(stage, timestamp=self._at(ended))
        self._span.set_attributes(dict(_request_attributes(record)))
        if record.result == "failed":
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end(self._at(record.duration))

    def _end_engine(self, record: RequestRecord, seconds: float) -> None:
        assert self._engine is not None
        if self.sampled:
            self._engine.set_attributes(dict(_usage_attributes(record)))
            if record.outcome not in ("ok", "client_left"):
                self._engine.set_status(Status(StatusCode.ERROR))
        self._engine.end(self._at(seconds))

    def _at(self, seconds: float) -> int:
        """Nanoseconds, from seconds since the request's arrival."""
        return self._began + int(seconds * 1e9)


def _operation(record: RequestRecord) -> str:
    return _OPERATIONS.get(record.operation, record.operation)


_Attributes = Iterator[tuple[str, str | int | float | bool]]


def _request_attributes(record: RequestRecord) -> _Attributes:
    """No path: one that is no route of ours is a client's own text."""
    yield "http.request.method", record.method
    yield "http.route", record.route
    yield "http.response.status_code", record.status
    yield "clinserve.request.id", record.request_id
    if record.tenant:
        yield "clinserve.tenant", record.tenant
    if record.deployment:
        yield "clinserve.deployment", record.deployment
        if record.adapter:
            yield "clinserve.adapter", record.adapter
        yield "clinserve.outcome", record.outcome
    if record.outcome != "ok":
        yield "error.type", record.outcome


def _engine_attributes(record: RequestRecord) -> _Attributes:
    yield "gen_ai.operation.name", _operation(record)
    yield "gen_ai.provider.name", "clinserve"
    yield "gen_ai.request.model", record.model
    yield "gen_ai.request.stream", record.stream
    for name, attribute in _PARAMETERS.items():
        if name in record.parameters:
            yield attribute, record.parameters[name]


def _usage_attributes(record: RequestRecord) -> _Attributes:
    yield "gen_ai.usage.input_tokens", record.prompt_tokens
    yield "gen_ai.usage.output_tokens", record.completion_tokens
    yield "gen_ai.usage.cache_read.input_tokens", record.cached_tokens
    if record.stream and "open" in record.stages and "reserve" in record.stages:
        yield "gen_ai.response.time_to_first_chunk", record.stages["open"] - record.stages["reserve"]
    if record.revision:
        yield "clinserve.model.revision", record.revision
    if record.outcome != "ok":
        yield "error.type", record.outcome
