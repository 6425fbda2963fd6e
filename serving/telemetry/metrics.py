"""Every metric, once: name, unit, labels, help. The only file that imports prometheus_client.

Labels are closed sets: deployments of the configuration, operations, codes of serving.errors, route templates. Never a
key, a tenant's text or a raw path: those mint series without end, https://github.com/BerriAI/litellm/pull/39136.
With PROMETHEUS_MULTIPROC_DIR set, each process writes files there and one scrape sums all of a node, also vLLM's.
GenAI names follow https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from serving.telemetry.record import RequestRecord

# The OpenTelemetry specification's buckets, so that dashboards made for it fit.
_DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"

Event = Literal[
    "stale_keys", "stale_policies", "quotas_away", "lease_settlements", "token_refusals", "unwritten_audit_records",
    "guard_decisions",
    "breaker_changes",
    "lost_records", "reckonings", "spills", "batch_lines", "repeats_away",
]  # fmt: skip
Book = Literal["usage", "audit"]
_EVENTS: dict[Event, tuple[str, list[str]]] = {
    "stale_keys": ("Requests let in by a remembered key because the key store was away.", []),
    "stale_policies": ("Times that limits and tenants could not be read anew; the old ones stay in force.", []),
    "quotas_away": ("Requests whose quotas could not be checked: let through or refused, as configured.", []),
    "repeats_away": ("Requests with an Idempotency-Key that were refused, or whose answer was not kept.", []),
    "lease_settlements": ("Leases by how they ended: settled, unknown to the store, or lost.", ["result"]),
    "token_refusals": ("Tokens of identity providers refused, by reason.", ["reason"]),
    "unwritten_audit_records": ("Requests served although the audit log could not be written.", []),
    "spills": ("Requests that one deployment could not take and another was asked for.", ["deployment", "to"]),
    "batch_lines": ("Lines of batches by what became of them: completed or failed.", ["result"]),
    "guard_decisions": ("What guards said of requests.", ["deployment", "guard", "stage", "decision"]),
    "breaker_changes": ("Circuit breakers of endpoints by the state that they changed to.", ["deployment", "state"]),
    "lost_records": ("Records of usage or audit that could neither be written nor kept.", ["book"]),
    "reckonings": ("Answers that ended early, by who said what they cost: the engine, or an estimate.", ["by"]),
}


class Metrics(Protocol):
    """What the gateway tells about requests."""

    def entered(self, deployment: str) -> None: ...
    def left(self, deployment: str) -> None: ...
    def finished(self, record: RequestRecord) -> None: ...

    def noted(self, event: Event, *labels: str, count: int = 1) -> None:
        """So many more of these. labels: in the order of the metric's, each from a closed set."""
        ...

    def backlog(self, book: Book, records: int) -> None: ...
    def scrape(self) -> tuple[bytes, str]: ...


class NoMetrics:
    """Metrics that are off."""

    def entered(self, deployment: str) -> None: ...
    def left(self, deployment: str) -> None: ...
    def finished(self, record: RequestRecord) -> None: ...
    def noted(self, event: Event, *labels: str, count: int = 1) -> None: ...
    def backlog(self, book: Book, records: int) -> None: ...

    def scrape(self) -> tuple[bytes, str]:
        return b"", CONTENT_TYPE_LATEST


class PrometheusMetrics:
    """Metrics in Prometheus form. One for each process."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        by = ["deployment", "operation", "outcome"]
        self._http = Counter(
            "clinserve_http_requests",
            "HTTP requests by route template and status.",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self._requests = Counter(
            "clinserve_requests", "Requests to a deployment by outcome.", by, registry=self._registry
        )
        self._duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "From the request's arrival to its last byte.",
            by,
            buckets=_DURATION,
            registry=self._registry,
        )
        self._first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From the request's arrival to the first token leaving the gateway; streams only.",
            ["deployment", "operation"],
            buckets=_FIRST_TOKEN,
            registry=self._registry,
        )
        self._per_token = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time between the tokens of one stream after its first.",
            ["deployment", "operation"],
            buckets=_PER_TOKEN,
            registry=self._registry,
        )
        self._tokens = Counter(
            "clinserve_tokens",
            "Tokens: prompt, of these cached, and completion.",
            ["deployment", "type"],
            registry=self._registry,
        )
        self._in_flight = Gauge(
            "clinserve_requests_in_flight",
            "Requests being answered now.",
            ["deployment"],
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self._backlog = Gauge(
            "clinserve_backlog_records",
            "Records that wait to be written.",
            ["book"],
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self._events = {
            event: Counter(f"clinserve_{event}", help, labels, registry=self._registry)
            for event, (help, labels) in _EVENTS.items()
        }

    def families(self) -> Iterable[Metric]:
        """Every metric that this class defines."""
        return self._registry.collect()

    def entered(self, deployment: str) -> None:
        self._in_flight.labels(deployment).inc()

    def left(self, deployment: str) -> None:
        self._in_flight.labels(deployment).dec()

    def noted(self, event: Event, *labels: str, count: int = 1) -> None:
        counter = self._events[event]
        (counter.labels(*labels) if labels else counter).inc(count)

    def backlog(self, book: Book, records: int) -> None:
        self._backlog.labels(book).set(records)

    def finished(self, record: RequestRecord) -> None:
        self._http.labels(record.route, record.method, str(record.status)).inc()
        if not record.deployment:
            return
        by = (record.deployment, record.operation, record.outcome)
        self._requests.labels(*by).inc()
        self._duration.labels(*by).observe(record.duration)
        if record.first_token is not None:
            self._first_token.labels(*by[:2]).observe(record.first_token)
        if record.per_token is not None:
            self._per_token.labels(*by[:2]).observe(record.per_token)
        for kind in ("prompt", "cached", "completion"):
            if count := getattr(record, f"{kind}_tokens"):
                self._tokens.labels(record.deployment, kind).inc(count)

    def scrape(self) -> tuple[bytes, str]:
        directory = os.environ.get(MULTIPROCESS_DIR)
        if not directory:
            return generate_latest(self._registry), CONTENT_TYPE_LATEST
        _forget_dead_processes(Path(directory))
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=directory)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST


def _forget_dead_processes(directory: Path) -> None:
    """Drop the live gauges of processes that are gone; their counters stay, so that sums never fall."""
    for file in directory.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not Path(f"/proc/{pid}").exists():
            mark_process_dead(pid, path=str(directory))  # type: ignore[no-untyped-call]
