"""The assembly: settings in, parts out, and the parts put together. Imports all; imported by the command line only.

settings ─┬─ secrets
          ├─ engines and guards (backends.py) ──┐
          ├─ governance (governance.py)          ├─ Parts ── gateway application ─┬─ Ray Serve (GatewayReplica)
          ├─ metrics, traces (tracing.py), log ──┘                               └─ one process (uvicorn)
          └─ replicas of engines ──────────────────────────────────────── Ray Serve (ModelReplica, EchoReplica)
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from starlette.types import ASGIApp

from serving import settings as config
from serving.backends import build_engines, check_backends, echo_engine
from serving.deployments import engine_args, weights
from serving.engines.endpoints import Endpoints
from serving.engines.engine import Operation
from serving.engines.waiting import NoStartTimes, StartTimes
from serving.fleets import number_of, profile_of
from serving.gateway import console
from serving.gateway.answers import Answers
from serving.gateway.app import create_app
from serving.gateway.backlog import Backlog
from serving.gateway.books import Books
from serving.gateway.catalog import Catalog, Deployment, RequestLimits
from serving.gateway.dialects import dialects
from serving.gateway.digests import AnswerDigests, NoDigests
from serving.gateway.fleet import Fleet, NoFleet
from serving.gateway.fleet_watch import FleetWatch
from serving.gateway.middleware import RequestId, UntilClientLeaves
from serving.gateway.parts import Parts
from serving.gateway.pulse import Pulse
from serving.gateway.settlement import Settlements
from serving.governance import build_governance, build_keyring, build_repeats, load_secrets, open_office
from serving.jobs import build_jobs
from serving.keeping import build_keeping
from serving.sealing import Sealer
from serving.settings import Settings
from serving.telemetry.bounded import FirstCome
from serving.telemetry.logs import JsonLog, NoLog, RequestLog
from serving.telemetry.metrics import Metrics, NoMetrics, PrometheusMetrics
from serving.tenants.admission import Admission
from serving.tenants.capacity import Capacity
from serving.tracing import build_traces, check_traces, vllm_args, vllm_env

if TYPE_CHECKING:
    from ray.serve import Application

__all__ = [
    "build_keyring",
    "check_backends",
    "check_traces",
    "open_office",
]  # of the other pages of the assembly, for the command line

GATEWAY_APP = "gateway"
BOOKS_SECONDS = 15.0
"""For a gateway that stops to write what is in its memory, after its last answer."""
_ECHO_ONGOING = 1024
_WATCHED = {"health_check_period_s": 2, "health_check_timeout_s": 4}
"""A replica that has died is replaced at the next check, one that hangs after three that it has not answered."""


def load_settings(path: Path) -> Settings:
    """The settings of a file, checked whole, engine arguments included. Raises SettingsError."""
    settings = config.load(path)
    known = engine_args.known_names()
    problems = [
        f"{path}: deployments[{index}].{problem}"
        for index, deployment in enumerate(settings.deployments)
        if isinstance(deployment.engine, config.VllmEngine)
        for problem in engine_args.problems_with(deployment.engine.args, known)
    ]
    if problems:
        raise config.SettingsError("\n".join(problems))
    return settings


def build_parts(
    settings: Settings,
    endpoints_of: Callable[[str], Endpoints],
    revisions: Mapping[str, str] | None = None,
    fleet: Fleet | None = None,
    starts_of: Callable[[str], StartTimes] = lambda name: NoStartTimes(),
) -> Parts:
    """Everything that the gateway works with.

    endpoints_of: where the replicas of a deployment are. revisions: of the models, by deployment; worked out here
    unless given. fleet: what counts these replicas. starts_of: what their starts took.
    """
    secrets = load_secrets(settings)
    metrics_dir(settings).mkdir(parents=True, exist_ok=True)
    metrics = build_metrics(settings)
    log = build_log(settings)
    traces = build_traces(settings, metrics)
    governance = build_governance(settings, secrets, metrics, on_checkpoint=log.anchored)
    revisions = revisions if revisions is not None else revisions_of(settings)
    engines = build_engines(settings, endpoints_of, secrets, metrics, starts_of)
    deployments = [
        Deployment(
            name=d.name,
            engine=engines[d.name],
            limits=RequestLimits(**d.limits.model_dump(exclude={"max_in_flight"})),
            notice=d.model.notice,
            revision=revisions[d.name],
            operations=operations_of(d),
            spill_to=d.spill_to,
            fast_lane=d.priority_tier,
        )
        for d in settings.deployments
    ]
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
    )
    fleet = fleet or NoFleet()
    return Parts(
        dialects=dialects(settings.server.region),
        catalog=Catalog(deployments, created=int(time.time())),
        fleet=fleet,
        keyring=governance.keyring,
        tokens=governance.tokens,
        check_tenant=governance.policies.check_tenant,
        limits_of=governance.policies.limits_of,
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
        books=Books(governance.ledger, audit, governance.prices),
        answers=Answers(repeats, Sealer(secrets.content), secrets.content, largest=settings.idempotency.max_answer),
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
        cache_salt_of=functools.lru_cache(maxsize=4096)(secrets.salt_of),
        max_body=settings.server.max_body,
        # HAProxy stands before each gateway of Ray Serve and adds its peer.
        proxies=settings.server.trusted_proxies + (settings.server.runtime == "ray"),
        background=(  # closed from the end: what runs stops, what is under way settles, then the leases, then the books
            traces,
            audit,
            governance.ledger,
            governance.policies,
            governance.tokens,
            governance.quotas,
            repeats,
            backlog,
            Pulse(metrics),
            FleetWatch(fleet, metrics),
            jobs.contents,
            settlements,
            keeping.unattended,
        ),
    )


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


def build_log(settings: Settings) -> RequestLog:
    told = settings.telemetry
    if told.request_log == "off":
        return NoLog()
    if told.request_log == "stdout":
        return JsonLog.on_stdout(level=told.log_level, share=told.log_share)
    file = request_log_file(settings)
    return JsonLog.in_file(file, size=told.log_size, keep=told.log_keep, level=told.log_level, share=told.log_share)


def request_log_file(settings: Settings) -> Path:
    return settings.server.state_dir / "logs" / "requests.jsonl"


def metrics_dir(settings: Settings) -> Path:
    """Where the processes of this node leave their metrics for one scrape."""
    return settings.server.state_dir / "run" / "metrics"


def process_app(settings: Settings) -> ASGIApp:
    """The gateway for one process, without Ray: echo and http engines."""

    def none(deployment: str) -> Endpoints:
        raise LookupError(deployment)  # settings refuse vLLM in this runtime

    return UntilClientLeaves(RequestId(create_app(build_parts(settings, none))))


def _gateway_app(settings: Settings, revisions: Mapping[str, str], start_seconds: Mapping[str, float]) -> ASGIApp:
    """The gateway inside its Ray Serve replica, which cancels a request whose client leaves by itself.

    start_seconds: what a start of each deployment is expected to take.
    """
    from serving.deployments.drain_watch import DrainWatch, is_stopping
    from serving.deployments.ray_endpoints import RayEndpoints
    from serving.deployments.ray_fleet import RayFleet
    from serving.deployments.starts import Starts

    def endpoints_of(name: str) -> Endpoints:
        return RayEndpoints(name, host=settings.server.host, port=settings.server.port, sleeps=name in sleepers)

    def starts_of(name: str) -> StartTimes:
        return Starts(name, expected=start_seconds[name])

    ours = settings.replicated
    sleepers = {d.name for d in ours if d.scaling and d.scaling.min == 0}
    fleet = RayFleet([d.name for d in ours], scaled=[d.name for d in ours if d.scaling])
    parts = build_parts(settings, endpoints_of, revisions, fleet, starts_of)

    def cut() -> None:
        for deployment in parts.catalog:
            deployment.engine.cut()

    watch = DrainWatch(is_stopping, seconds=settings.server.drain_timeout, cut=cut)
    return create_app(replace(parts, background=(*parts.background, watch)))


def gateway_application(settings: Settings, token: str = "") -> Application:
    """The gateway as a Ray Serve application, at route prefix /. token: another one makes it another version."""
    from ray import serve

    from serving.deployments.gateway_replica import GatewayReplica
    from serving.deployments.versions import versioned

    gateway = serve.deployment(serve.ingress()(GatewayReplica)).options(
        name="gateway",
        num_replicas=settings.gateway.replicas,
        max_ongoing_requests=2 * settings.gateway.max_in_flight,  # admission refuses before Serve would queue
        graceful_shutdown_timeout_s=settings.server.drain_timeout + BOOKS_SECONDS,
        graceful_shutdown_wait_loop_s=0.5,
        max_surge_percent=100,  # new ones first: there is always one that answers
        **_WATCHED
        | {"health_check_timeout_s": 10},  # HAProxy passes over one that hangs before that; and it has streams
        ray_actor_options={"num_cpus": settings.gateway.num_cpus, "runtime_env": {"env_vars": _metrics_env(settings)}},
    )
    start_seconds = {d.name: profile_of(settings, d).start_seconds for d in settings.replicated}
    revisions = revisions_of(settings)
    gateway = versioned(gateway, token, revisions, _without_counts(settings))
    return gateway.bind(functools.partial(_gateway_app, settings, revisions, start_seconds))


def _without_counts(settings: Settings) -> dict[str, Any]:
    """The settings but for how many replicas there are: to change that, none of them need be replaced."""
    tree = settings.model_dump(mode="json")
    del tree["gateway"]["replicas"]
    for deployment in tree["deployments"]:
        del deployment["replicas"]
    return tree


def engine_application(settings: Settings, deployment: config.Deployment, token: str = "") -> Application:
    """A deployment with replicas of its own as a Ray Serve application, at route prefix /_engine/NAME. token: as the
    gateway's.
    """
    if isinstance(deployment.engine, config.EchoEngine):
        return _echo_application(settings, deployment, deployment.engine, token)
    from ray import serve

    from serving.deployments.model_replica import ModelReplica
    from serving.deployments.versions import versioned

    engine = deployment.engine
    assert isinstance(engine, config.VllmEngine)
    args, env = vllm_args(settings), _cache_env(settings) | vllm_env(settings) | engine.env | _metrics_env(settings)
    replica = serve.deployment(serve.ingress()(ModelReplica)).options(
        name="model",
        max_ongoing_requests=engine.max_ongoing_requests,
        **_kept_up(settings, deployment),
        **number_of(settings, deployment),
        **_placement(deployment, env),
    )
    replica = versioned(replica, token, _model_of(deployment), args, env, settings.server.idle_timeout)
    return replica.bind(
        deployment,
        functools.partial(_engine_secret, settings),
        functools.partial(weights.ready, settings, deployment),
        args,
        settings.server.idle_timeout,
    )


def _model_of(deployment: config.Deployment) -> dict[str, Any]:
    """What a replica of it is made from: all else of its settings concerns the gateway, or their number."""
    return deployment.model_dump(mode="json", include={"name", "model", "engine"})


def _echo_application(
    settings: Settings, deployment: config.Deployment, engine: config.EchoEngine, token: str
) -> Application:
    from ray import serve

    from serving.deployments.echo_replica import EchoReplica
    from serving.deployments.versions import versioned

    replica = serve.deployment(serve.ingress()(EchoReplica)).options(
        name="model",
        max_ongoing_requests=_ECHO_ONGOING,
        ray_actor_options={"num_cpus": engine.num_cpus},
        **_kept_up(settings, deployment),
        **number_of(settings, deployment),
    )
    secret = functools.partial(_engine_secret, settings)
    replica = versioned(replica, token, _model_of(deployment))
    return replica.bind(deployment.name, functools.partial(echo_engine, engine), secret, engine.start_time)


def _kept_up(settings: Settings, deployment: config.Deployment) -> dict[str, Any]:
    """How Serve watches, drains and replaces an engine's replicas."""
    return _WATCHED | {
        "graceful_shutdown_timeout_s": settings.server.drain_timeout,
        "graceful_shutdown_wait_loop_s": 0.5,
        "max_surge_percent": 100 if deployment.upgrade == "surge" else 0,
    }


def _engine_secret(settings: Settings) -> str:
    return load_secrets(settings).engine


def _placement(deployment: config.Deployment, env: dict[str, str]) -> dict[str, Any]:
    """Where Ray may put a replica and its workers."""
    engine = deployment.engine
    assert isinstance(engine, config.VllmEngine)
    actor: dict[str, Any] = {"num_cpus": engine.num_cpus, "runtime_env": {"env_vars": env}}
    if engine.device == "cpu":
        return {"ray_actor_options": actor, "placement_group_bundles": [{"CPU": engine.num_cpus}]}
    # One bundle a GPU, the replica itself in the first; the type, if any, as Ray's LLMServer asks for it.
    bundle: dict[str, float] = {"CPU": 1.0, "GPU": 1.0}
    if engine.accelerator_type:
        bundle[f"accelerator_type:{engine.accelerator_type}"] = 0.001
    first = bundle | {"CPU": 1.0 + engine.num_cpus}
    return {
        "ray_actor_options": actor,
        "placement_group_bundles": [first, *[bundle] * (engine.tensor_parallel_size - 1)],
        "placement_group_strategy": "PACK",
    }


def _cache_env(settings: Settings) -> dict[str, str]:
    """Where vLLM keeps what it has compiled, so that a next start need not; beside the weights, where machines share
    them. What the environment says already goes before.
    """
    folder = settings.weights.folder or settings.server.state_dir
    return {"VLLM_CACHE_ROOT": os.environ.get("VLLM_CACHE_ROOT", str(folder / "vllm-cache"))}


def _metrics_env(settings: Settings) -> dict[str, str]:
    return {"PROMETHEUS_MULTIPROC_DIR": str(metrics_dir(settings))} if settings.telemetry.metrics else {}
