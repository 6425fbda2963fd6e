"""Every metric, once: name, unit, labels, help. Only telemetry/ imports prometheus_client.

Labels are closed sets: deployments of the configuration, their adapters, operations, codes of serving.errors, route
templates, and so many tenants as are configured. Never a key, a client's text or a raw path: those mint series without
end, https://github.com/BerriAI/litellm/pull/39136. GenAI names follow https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric

from serving.telemetry.bounded import FirstCome
from serving.telemetry.exemplars import Exemplars, TracedHistogram
from serving.telemetry.exposition import MULTIPROCESS_DIR, page
from serving.telemetry.mapped import reserve_files
from serving.telemetry.record import RequestRecord

__all__ = ["MULTIPROCESS_DIR", "Metrics", "NoMetrics", "PrometheusMetrics"]

# The OpenTelemetry specification's buckets, so that dashboards made for it fit.
_DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_PER_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_STAGE = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_HOLD = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

Event = Literal[
    "stale_keys", "stale_policies", "quotas_away", "lease_settlements", "token_refusals", "unwritten_audit_records",
    "guard_decisions",
    "breaker_changes",
    "lost_records", "refused_records", "refused_rows", "reckonings", "unusable_usage",
    "audit_stream_records", "audit_stream_failures",
    "routed", "spills", "batch_lines", "repeats_away", "spans", "replica_retries", "lost_log_lines",
    "fatal_requests",
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
    "audit_stream_records": ("Audit records that a receiver of the stream has had.", ["receiver"]),
    "audit_stream_failures": (
        "Tries to send audit records to a receiver that failed; they are sent later.",
        ["receiver"],
    ),
    "spills": ("Requests that one deployment could not take and another was asked for.", ["deployment", "to"]),
    "routed": (
        "Requests placed at a replica, by why: known or home, of the prompt's beginning, or load.",
        ["deployment", "why"],
    ),
    "batch_lines": ("Lines of batches by what became of them: completed or failed.", ["result"]),
    "guard_decisions": ("What guards said of requests.", ["deployment", "guard", "stage", "decision"]),
    "breaker_changes": ("Circuit breakers of endpoints by the state that they changed to.", ["deployment", "state"]),
    "lost_records": ("Records of usage or audit that could neither be written nor kept.", ["book"]),
    "spans": ("Spans of traces: exported, dropped because too many waited, or failed at the receiver.", ["result"]),
    "fatal_requests": ("Requests that were refused because two replicas had died while they had them.", ["deployment"]),
    "replica_retries": ("Requests that a replica did not take and that were sent to another.", ["deployment"]),
    "lost_log_lines": ("Lines of the request log that could not be written, such as on a full disk.", []),
    "reckonings": (
        "Answers that ended early or without a usable usage, by who said what they cost: the engine, or an estimate.",
        ["by"],
    ),
    "unusable_usage": (
        "Answers whose usage an endpoint did not say, or in numbers that cannot be: these were estimated.",
        ["deployment"],
    ),
    "refused_rows": (
        "Rows of keys, tenants and limits that something else than this product changed, read.",
        ["table"],
    ),
    "refused_records": ("Records of usage or audit that their store does not take: set aside in the spool.", ["book"]),
}


class Metrics(Protocol):
    """What the gateway tells about requests."""

    def entered(self, deployment: str) -> None: ...
    def left(self, deployment: str) -> None: ...
    def finished(self, record: RequestRecord) -> None: ...

    def noted(self, event: Event, *labels: str, count: int = 1) -> None:
        """So many more of these. labels: in the order of the metric's, each from a closed set."""
        ...

    def holds(self, deployment: str, requests: int) -> None:
        """So many are held now, for a replica that starts."""
        ...

    def held(self, deployment: str, ending: str, seconds: float) -> None:
        """One no longer is. ending: of a closed set, engines/waiting.py."""
        ...

    def backlog(self, book: Book, records: int) -> None: ...
    def bad_files(self, book: Book, files: int) -> None: ...
    def audited(self, *, findings: int) -> None:
        """So much of what this process's anchors know of the audit log is not in the database."""
        ...

    def lagged(self, seconds: float) -> None:
        """The event loop came so late to something that was due."""
        ...

    def scaled(self, deployment: str, *, replicas: Mapping[str, int], missed: bool, changes: Mapping[str, int]) -> None:
        """replicas: by state. changes: how many there have been, by reason."""
        ...

    def scrape(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type, in the format that this Accept header prefers."""
        ...


class NoMetrics:
    """Metrics that are off."""

    def entered(self, deployment: str) -> None: ...
    def left(self, deployment: str) -> None: ...
    def finished(self, record: RequestRecord) -> None: ...
    def noted(self, event: Event, *labels: str, count: int = 1) -> None: ...
    def holds(self, deployment: str, requests: int) -> None: ...
    def held(self, deployment: str, ending: str, seconds: float) -> None: ...
    def backlog(self, book: Book, records: int) -> None: ...
    def bad_files(self, book: Book, files: int) -> None: ...
    def audited(self, *, findings: int) -> None: ...
    def lagged(self, seconds: float) -> None: ...
    def scaled(
        self, deployment: str, *, replicas: Mapping[str, int], missed: bool, changes: Mapping[str, int]
    ) -> None: ...

    def scrape(self, accept: str = "") -> tuple[bytes, str]:
        return b"", CONTENT_TYPE_LATEST


class PrometheusMetrics:
    """Metrics in Prometheus form. One for each process. tenants: which of them have series of their own."""

    def __init__(self, tenants: FirstCome | None = None) -> None:
        reserve_files()
        self._registry = CollectorRegistry()
        self._exemplars = Exemplars()
        self._tenants = tenants or FirstCome((), most=50)
        by = ("deployment", "operation", "outcome")
        traced = functools.partial(TracedHistogram, registry=self._registry, exemplars=self._exemplars)
        self._http = Counter(
            "clinserve_http_requests",
            "HTTP requests by route template and status.",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self._requests = Counter(
            "clinserve_requests",
            "Requests to a deployment by outcome, and by result: ok, left, limited, refused or failed.",
            [*by, "result"],
            registry=self._registry,
        )
        self._duration = traced(
            "gen_ai_server_request_duration_seconds",
            "From the request's arrival to its last byte.",
            by,
            _DURATION,
        )
        self._first_token = traced(
            "gen_ai_server_time_to_first_token_seconds",
            "From the request's arrival to the first token leaving the gateway; streams only.",
            by[:2],
            _FIRST_TOKEN,
        )
        self._per_token = traced(
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time between the tokens of one stream after its first.",
            by[:2],
            _PER_TOKEN,
        )
        self._stages = Histogram(
            "clinserve_stage_seconds",
            "Time in each stage: identify, read, spill and reserve are the gateway's, open and forward the engine's.",
            ["deployment", "stage"],
            buckets=_STAGE,
            registry=self._registry,
        )
        self._tokens = Counter(
            "clinserve_tokens",
            "Tokens: prompt, of these cached, and completion.",
            ["deployment", "type"],
            registry=self._registry,
        )
        self._of_adapters = Counter(
            "clinserve_adapter_requests",
            "Requests with a LoRA adapter, which clinserve_requests counts too.",
            ["deployment", "adapter", "result"],
            registry=self._registry,
        )
        self._tokens_of_adapters = Counter(
            "clinserve_adapter_tokens",
            "Tokens of requests with a LoRA adapter, which clinserve_tokens counts too.",
            ["deployment", "adapter", "type"],
            registry=self._registry,
        )
        self._of_tenants = Counter(
            "clinserve_tenant_requests",
            "Requests by tenant; `other` are those beyond telemetry.max_tenants.",
            ["tenant", "deployment", "result"],
            registry=self._registry,
        )
        self._tokens_of_tenants = Counter(
            "clinserve_tenant_tokens",
            "Tokens by tenant: prompt, of these cached, and completion.",
            ["tenant", "deployment", "type"],
            registry=self._registry,
        )
        self._cost = Counter(
            "clinserve_cost",
            "What requests cost by the configured prices, in their currency.",
            ["tenant", "deployment"],
            registry=self._registry,
        )
        self._lag = Histogram(
            "clinserve_event_loop_lag_seconds",
            "How late the gateway's event loop came to what was due: all requests of a process wait so long.",
            buckets=_LAG,
            registry=self._registry,
        )
        self._in_flight = Gauge(
            "clinserve_requests_in_flight",
            "Requests being answered now.",
            ["deployment"],
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self._holds = Gauge(
            "clinserve_requests_held",
            "Requests held now until a replica runs.",
            ["deployment"],
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self._held = Histogram(
            "clinserve_hold_seconds",
            "How long requests were held for a replica, by how it ended: woken, expired, full, left or failed.",
            ["deployment", "ending"],
            buckets=_HOLD,
            registry=self._registry,
        )
        self._backlog = Gauge(
            "clinserve_backlog_records",
            "Records that wait to be written.",
            ["book"],
            multiprocess_mode="livesum",
            registry=self._registry,
        )
        self._bad_files = Gauge(
            "clinserve_bad_files",
            "Damaged files of records that were set aside in state_dir/spool, for somebody to look at.",
            ["book"],
            multiprocess_mode="livemostrecent",
            registry=self._registry,
        )
        # Of each gateway of a node the same, so one of them is shown; they are no counters, for these would add up.
        latest = functools.partial(Gauge, multiprocess_mode="livemostrecent", registry=self._registry)
        self._findings = latest(
            "clinserve_audit_findings",
            "What this node's anchors know of the audit log and the database does not, at the last look.",
        )
        self._scaling_replicas = latest(
            "clinserve_scaling_replicas",
            "Replicas by state: running, starting, target; wanted, bounds and budget aside; min, max.",
            ["deployment", "state"],
        )
        self._scaling_missed = latest(
            "clinserve_scaling_goal_missed",
            "1 while a goal of the slo section is missed by a fleet that is busy.",
            ["deployment"],
        )
        self._scaling_changes = latest(
            "clinserve_scaling_changes",
            "Changes of the number of replicas so far, by reason.",
            ["deployment", "reason"],
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

    def holds(self, deployment: str, requests: int) -> None:
        self._holds.labels(deployment).set(requests)

    def held(self, deployment: str, ending: str, seconds: float) -> None:
        self._held.labels(deployment, ending).observe(seconds)

    def backlog(self, book: Book, records: int) -> None:
        self._backlog.labels(book).set(records)

    def bad_files(self, book: Book, files: int) -> None:
        self._bad_files.labels(book).set(files)

    def audited(self, *, findings: int) -> None:
        self._findings.set(findings)

    def lagged(self, seconds: float) -> None:
        self._lag.observe(seconds)

    def scaled(self, deployment: str, *, replicas: Mapping[str, int], missed: bool, changes: Mapping[str, int]) -> None:
        for state, count in replicas.items():
            self._scaling_replicas.labels(deployment, state).set(count)
        self._scaling_missed.labels(deployment).set(missed)
        for reason, count in changes.items():
            self._scaling_changes.labels(deployment, reason).set(count)

    def finished(self, record: RequestRecord) -> None:
        self._http.labels(record.route, record.method, str(record.status)).inc()
        if not record.deployment:
            return
        by = (record.deployment, record.operation, record.outcome)
        self._requests.labels(*by, record.result).inc()
        self._duration.observe(by, record.duration, record.trace)
        if record.first_token is not None:
            self._first_token.observe(by[:2], record.first_token, record.trace)
        if record.per_token is not None:
            self._per_token.observe(by[:2], record.per_token, record.trace)
        for stage, began, ended in record.spans():
            self._stages.labels(record.deployment, stage).observe(ended - began)
        self._count(record)

    def _count(self, record: RequestRecord) -> None:
        tenant = self._tenants.of(record.tenant)
        self._of_tenants.labels(tenant, record.deployment, record.result).inc()
        if record.adapter:
            self._of_adapters.labels(record.deployment, record.adapter, record.result).inc()
        for kind in ("prompt", "cached", "completion"):
            if count := getattr(record, f"{kind}_tokens"):
                self._tokens.labels(record.deployment, kind).inc(count)
                if record.adapter:
                    self._tokens_of_adapters.labels(record.deployment, record.adapter, kind).inc(count)
                self._tokens_of_tenants.labels(tenant, record.deployment, kind).inc(count)
        if record.cost_micros:
            self._cost.labels(tenant, record.deployment).inc(record.cost_micros / 1e6)

    def scrape(self, accept: str = "") -> tuple[bytes, str]:
        return page(self._registry, self._exemplars, accept)
