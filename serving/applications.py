"""The assembly's page for Ray Serve: the product as applications, one for the gateway and one for each deployment that
has replicas of its own.

settings ─┬─ parts (app.py) ── gateway application ── GatewayReplica ── route prefix /
          └─ each deployment ──────────────────────── ModelReplica, EchoReplica ── route prefix /_engine/NAME
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp

from serving import settings as config
from serving.app import build_parts, metrics_dir, revisions_of
from serving.backends import echo_engine
from serving.deployments import weights
from serving.engines.endpoints import Endpoints
from serving.engines.waiting import StartTimes
from serving.fleets import number_of, profile_of
from serving.gateway.app import create_app
from serving.governance import secret_source
from serving.routing.router import Router
from serving.secret_versions import VersionedSecret
from serving.settings import Settings
from serving.tracing import vllm_args, vllm_env

if TYPE_CHECKING:
    from ray.serve import Application

GATEWAY_APP = "gateway"
BOOKS_SECONDS = 15.0
"""For a gateway that stops to write what is in its memory, after its last answer."""
_ECHO_ONGOING = 1024
_WATCHED = {"health_check_period_s": 2, "health_check_timeout_s": 4}
"""A replica that has died is replaced at the next check, one that hangs after three that it has not answered."""


def _gateway_app(settings: Settings, revisions: Mapping[str, str], start_seconds: Mapping[str, float]) -> ASGIApp:
    """The gateway inside its Ray Serve replica, which cancels a request whose client leaves by itself.

    start_seconds: what a start of each deployment is expected to take.
    """
    from serving.deployments.drain_watch import DrainWatch, is_stopping
    from serving.deployments.ray_endpoints import RayEndpoints
    from serving.deployments.ray_fleet import RayFleet
    from serving.deployments.starts import Starts

    def endpoints_of(name: str, router: Router) -> Endpoints:
        server = settings.server
        return RayEndpoints(name, router, host=server.host, port=server.port, sleeps=name in sleepers)

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
        ray_actor_options={
            "num_cpus": settings.gateway.num_cpus,
            "resources": {settings.gateway.resource: 1.0} if settings.gateway.resource else {},
            "runtime_env": {"env_vars": _metrics_env(settings)},
        },
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
        functools.partial(weights.adapter_ready, settings, deployment),
        settings.secrets.refresh,
    )


def _model_of(deployment: config.Deployment) -> dict[str, Any]:
    """What a replica of it is made from: all else of its settings concerns the gateway, or their number."""
    return deployment.model_dump(mode="json", include={"name", "model", "engine", "adapters", "adapters_file"})


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
    return replica.bind(
        deployment.name, functools.partial(echo_engine, engine), secret, engine.start_time, settings.secrets.refresh
    )


def _kept_up(settings: Settings, deployment: config.Deployment) -> dict[str, Any]:
    """How Serve watches, drains and replaces an engine's replicas."""
    return _WATCHED | {
        "graceful_shutdown_timeout_s": settings.server.drain_timeout,
        "graceful_shutdown_wait_loop_s": 0.5,
        "max_surge_percent": 100 if deployment.surges else 0,
    }


def _engine_secret(settings: Settings) -> VersionedSecret:
    """It alone: an engine's machine is given no other."""
    return secret_source(settings).versions("engine")


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
