"""The assembly: settings in, parts out, and the parts put together. Imports all; imported by the command line only.

settings ─┬─ secrets
          ├─ engines and guards (backends.py) ──┐
          ├─ governance (governance.py)          ├─ Parts ── gateway application ─┬─ Ray Serve (applications.py)
          ├─ metrics, traces (tracing.py), log ──┘                               └─ one process (uvicorn)
          └─ replicas of engines ──────────────────────────────────────── Ray Serve (applications.py)
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from fastapi import APIRouter
from starlette.types import ASGIApp

from serving import settings as config
from serving.backends import build_engines, check_backends
from serving.deployments import engine_args, weights
from serving.deployments.following import Following, Listed
from serving.engines.adapters import Adapter
from serving.engines.endpoints import Endpoints
from serving.engines.engine import Operation
from serving.engines.waiting import NoStartTimes, StartTimes
from serving.gateway import console
from serving.gateway.answers import Answers
from serving.gateway.app import create_app
from serving.gateway.backlog import Backlog
from serving.gateway.books import Books
from serving.gateway.catalog import Catalog, Deployment, RequestLimits
from serving.gateway.cross_origin import cross_origin
from serving.gateway.dialects import dialects
from serving.gateway.digests import AnswerDigests, NoDigests
from serving.gateway.fleet import Fleet, NoFleet
from serving.gateway.fleet_watch import FleetWatch
from serving.gateway.large_work import CalmCollector, LargeWork
from serving.gateway.middleware import RequestId, UntilClientLeaves
from serving.gateway.parts import Parts
from serving.gateway.pulse import Pulse
from serving.gateway.settlement import Settlements
from serving.governance import build_deaths, build_governance, build_keyring, build_repeats, load_secrets, open_office
from serving.grammars.schemas import SchemaBudget
from serving.jobs import build_jobs
from serving.keeping import build_keeping
from serving.routing.router import Router
from serving.sealing import Sealer
from serving.secret_follower import SecretFollower
from serving.settings import Settings
from serving.telemetry.bounded import FirstCome
from serving.telemetry.listener import MetricsListener, NoListener
from serving.telemetry.logs import JsonLog, NoLog, RequestLog
from serving.telemetry.metrics import Metrics, NoMetrics, PrometheusMetrics
from serving.tenants.admission import Admission
from serving.tenants.capacity import Capacity
from serving.tracing import build_traces, check_traces

__all__ = [
    "build_keyring",
    "check_backends",
    "check_traces",
    "open_office",
]  # of the other pages of the assembly, for the command line


def load_settings(path: Path, *, elsewhere: bool = False) -> Settings:
    """The settings of a file, checked whole, engine arguments included. Raises SettingsError.

    elsewhere: its directories are those of other machines.
    """
    settings = config.load(path, elsewhere=elsewhere)
    check_engine_args(settings, str(path))
    return settings


def check_engine_args(settings: Settings, origin: str) -> None:
    """Raises SettingsError for an argument that vLLM does not know, or that is the product's to set."""
    known = engine_args.known_names()
    problems = [
        f"{origin}: deployments[{index}].{problem}"
        for index, deployment in enumerate(settings.deployments)
        if isinstance(deployment.engine, config.VllmEngine)
        for problem in engine_args.problems_with(deployment.engine.args, known)
    ]
    if problems:
        raise config.SettingsError("\n".join(problems))


def build_parts(
    settings: Settings,
    endpoints_of: Callable[[str, Router], Endpoints],
    revisions: Mapping[str, str] | None = None,
    fleet: Fleet | None = None,
    starts_of: Callable[[str], StartTimes] = lambda name: NoStartTimes(),
) -> Parts:
    """Everything that the gateway works with.

    endpoints_of: where the replicas of a deployment are, chosen by a router. revisions: of the models, by deployment;
    worked out here unless given. fleet: what counts these replicas. starts_of: what their starts took.
    """
    secrets = load_secrets(settings)
    metrics_dir(settings).mkdir(parents=True, exist_ok=True)
    metrics = build_metrics(settings)
    log = build_log(settings, metrics)
    traces = build_traces(settings, metrics)
    governance = build_governance(settings, secrets, metrics, on_checkpoint=log.anchored)
    revisions = revisions if revisions is not None else revisions_of(settings)
    deaths = build_deaths(settings, secrets)
    engines = build_engines(settings, endpoints_of, secrets, metrics, starts_of, deaths)
    deployments = [
        Deployment(
            name=d.name,
            engine=engines[d.name],
            limits=RequestLimits(
                **d.limits.model_dump(exclude={"max_in_flight", "schemas"}),
                schemas=SchemaBudget(**d.limits.schemas.model_dump()),
            ),
            notice=d.model.notice,
            revision=revisions[d.name],
            operations=operations_of(d),
            spill_to=d.spill_to,
            fast_lane=d.priority_tier,
            holds_to_schemas=d.engine.kind != "http",
        )
        for d in settings.deployments
    ]
    catalog = Catalog(deployments, created=int(time.time()))
    audit = governance.audit
    jobs = build_jobs(settings, secrets, governance.database, audit, metrics)
    repeats = build_repeats(settings, secrets, metrics)
    keeping = build_keeping(settings, secrets, governance)
    backlog = Backlog(metrics, {"usage": governance.ledger, "audit": audit})
    settlements = Settlements(
        metrics=metrics,
        digest=audit.digest,
        new_digests=functools.partial(AnswerDigests, audit.digester) if settings.audit.enabled else NoDigests,
        on_reckoned=lambda by: metrics.noted("reckonings", by),
        on_unusable=lambda deployment: metrics.noted("unusable_usage", deployment),
    )
    fleet, large_work = fleet or NoFleet(), LargeWork()
    return Parts(
        dialects=dialects(settings.server.region),
        catalog=catalog,
        fleet=fleet,
        keyring=governance.keyring,
        check_standing=governance.standing.check,
        tokens=governance.tokens,
        bounded=governance.policies.bounded,
        limits_of=governance.policies.limits_of,
        large_work=large_work,
        admission=Admission(
            capacity=Capacity(
                total=settings.gateway.max_in_flight,
                per_deployment={d.name: d.limits.max_in_flight for d in settings.deployments},
            ),
            quotas=governance.quotas,
            policies=governance.policies,
            check_audit=audit.check,
        ),
        settlements=settlements,
        books=Books(governance.ledger, audit, governance.prices, governance.access),
        answers=Answers(
            repeats,
            Sealer(secrets.content),
            secrets.content,
            largest=settings.idempotency.max_answer,
            seconds=settings.idempotency.keep,
        ),
        administration=governance.administration,
        files=jobs.files,
        batches=jobs.batches,
        responses=keeping.responses,
        unattended=keeping.unattended,
        pages=console.router() if settings.console.enabled else APIRouter(),
        worker_on=jobs.worker_on,
        metrics=metrics,
        traces=traces,
        log=log,
        cache_salt_of=secrets.salt_of,
        cross_origin=cross_origin(settings.server.cors_origins),
        metrics_interval=settings.telemetry.metrics_interval,
        max_body=settings.server.max_body,
        body_timeout=settings.server.body_timeout,
        # HAProxy stands before each gateway of Ray Serve and adds its peer.
        proxies=settings.server.trusted_proxies + (settings.server.runtime == "ray"),
        background=(  # closed from the end: what runs stops, what is under way settles, then the leases, then the books
            build_listener(settings, metrics),
            CalmCollector(),
            large_work,
            SecretFollower(
                secrets.versioned(), lambda: load_secrets(settings).versioned(), every=settings.secrets.refresh
            ),
            traces,
            audit,
            governance.ledger,
            governance.access,
            governance.anchor_check,
            governance.audit_stream,
            governance.policies,
            governance.tokens,
            governance.quotas,
            repeats,
            deaths,
            backlog,
            Pulse(metrics),
            *(followed_by(catalog, d) for d in settings.deployments if d.takes_adapters),
            FleetWatch(fleet, metrics),
            jobs.contents,
            settlements,
            keeping.unattended,
        ),
    )


def followed_by(catalog: Catalog, deployment: config.Deployment) -> Following:
    """What has told the catalog of a deployment's adapters, and will when their file changes."""

    def adapt(listed: Listed) -> None:
        catalog.adapt(deployment.name, [Adapter(deployment.name, a.name, a.digest, a.notice) for a in listed])

    following = Following(deployment, adapt)
    following.begin()
    return following


def revisions_of(settings: Settings) -> dict[str, str]:
    """Which weights each deployment runs; hashes a directory of weights once. Raises WeightsError."""
    digests = weights.digests_of(settings)
    return {d.name: weights.revision_of(d, digests) for d in settings.deployments}


def operations_of(deployment: config.Deployment) -> frozenset[Operation]:
    """What a deployment's model can do: vLLM serves a model for generation or for pooling, not for both."""
    engine = deployment.engine
    if not isinstance(engine, config.VllmEngine):
        return frozenset({"chat", "completions", "embeddings"})
    pooling = engine.args.get("runner") == "pooling"
    return frozenset({"embeddings"}) if pooling else frozenset({"chat", "completions"})


def build_metrics(settings: Settings) -> Metrics:
    telemetry = settings.telemetry
    if not telemetry.metrics:
        return NoMetrics()
    return PrometheusMetrics(FirstCome(telemetry.tenants, most=telemetry.max_tenants))


def build_listener(settings: Settings, metrics: Metrics) -> MetricsListener | NoListener:
    """Where metrics are read without a key."""
    telemetry = settings.telemetry
    if not (port := settings.metrics_port):
        return NoListener()
    return MetricsListener(metrics.scrape, telemetry.metrics_host, port, seconds=telemetry.metrics_interval)


def build_log(settings: Settings, metrics: Metrics) -> RequestLog:
    told, on_lost = settings.telemetry, functools.partial(metrics.noted, "lost_log_lines")
    if told.request_log == "off":
        return NoLog()
    if told.request_log == "stdout":
        return JsonLog.on_stdout(
            level=told.log_level, share=told.log_share, addresses=told.log_addresses, on_lost=on_lost
        )
    return JsonLog.in_file(
        request_log_file(settings),
        size=told.log_size,
        keep=told.log_keep,
        level=told.log_level,
        share=told.log_share,
        addresses=told.log_addresses,
        on_lost=on_lost,
    )


def request_log_file(settings: Settings) -> Path:
    return settings.server.state_dir / "logs" / "requests.jsonl"


def metrics_dir(settings: Settings) -> Path:
    """Where the processes of this node leave their metrics for one scrape."""
    return settings.server.state_dir / "run" / "metrics"


def process_app(settings: Settings) -> ASGIApp:
    """The gateway for one process, without Ray: echo and http engines."""

    def none(deployment: str, router: Router) -> Endpoints:
        raise LookupError(deployment)  # settings refuse vLLM in this runtime

    return UntilClientLeaves(RequestId(create_app(build_parts(settings, none))))
