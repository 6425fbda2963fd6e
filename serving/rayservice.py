"""The assembly's page for clusters: the product where others start it, as KubeRay does on Kubernetes.

configuration ── serve_config ── what Ray Serve is told, as data
                                    └─ import_path and args ── gateway(args), engine(args) ── applications.py

Ray Serve starts an application anew when its args change, and moves numbers in its `deployments` without that. So args
hold what a replica is, and nothing that others need: a model that is added, or a limit, leaves running engines alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving import applications
from serving import settings as config
from serving.app import check_engine_args
from serving.deployments.naming import ENGINE_PREFIX, app_name_of
from serving.settings import Settings, SettingsError

if TYPE_CHECKING:
    from ray.serve import Application

Tree = dict[str, Any]

ENGINE_READS: Mapping[str, tuple[str, ...]] = {
    "server": ("state_dir", "drain_timeout", "idle_timeout"),
    "secrets": ("key_vault", "prefix"),
    "weights": ("folder", "blob_endpoint", "connections"),
    "telemetry": ("metrics", "traces"),
}
"""What an engine replica reads beside its deployment."""
GATEWAY_READS = ("routing", "limits", "hold", "spill_to", "guards", "priority_tier", "price")
"""What of a deployment is the gateway's business alone."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve_config_of(path: Path) -> Tree:
    """What Ray Serve is told of the configuration in a file, for other machines. Raises SettingsError."""
    tree = config.read(path)
    settings = config.parse(tree, origin=str(path), elsewhere=True)
    check_engine_args(settings, str(path))
    if problems := [*_relative(tree), *_problems(settings)]:
        raise SettingsError("\n".join(f"{path}: {problem}" for problem in problems))
    return serve_config(tree, settings)


def serve_config(tree: Tree, settings: Settings) -> Tree:
    """tree: the configuration as written; settings: what it says."""
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": settings.server.host, "port": settings.server.port},
        "logging_config": {"log_level": "WARNING", "enable_access_log": False},
        "applications": [
            _gateway(tree),
            *(
                _engine(tree, d)
                for d, read in zip(tree["deployments"], settings.deployments, strict=True)
                if read.has_replicas
            ),
        ],
    }


def _gateway(tree: Tree) -> Tree:
    gateway = tree.get("gateway") or {}
    deployments = [without(d, "replicas") if d["engine"]["kind"] == "vllm" else d for d in tree["deployments"]]
    return {
        "name": applications.GATEWAY_APP,
        "route_prefix": "/",
        "import_path": f"{__name__}:gateway",
        "args": {"config": tree | {"gateway": without(gateway, "replicas"), "deployments": deployments}},
        "deployments": [{"name": "gateway", "num_replicas": gateway.get("replicas", 1)}],
    }


def _engine(tree: Tree, deployment: Tree) -> Tree:
    shared = {
        section: {name: value for name, value in (tree.get(section) or {}).items() if name in names}
        for section, names in ENGINE_READS.items()
    }
    what = without(deployment, "replicas", *GATEWAY_READS)
    told: Tree = {
        "name": app_name_of(deployment["name"]),
        "route_prefix": ENGINE_PREFIX + deployment["name"],
        "import_path": f"{__name__}:engine",
        "args": {"config": shared | {"deployments": [what | _placed(deployment)]}},
    }
    if "replicas" in deployment:
        told["deployments"] = [{"name": "model", "num_replicas": deployment["replicas"]}]
    return told


def without(section: Tree, *names: str) -> Tree:
    return {name: value for name, value in section.items() if name not in names}


def _placed(deployment: Tree) -> Tree:
    """An echo engine goes where its number of replicas says, which is told apart from what it is."""
    return {"engine": deployment["engine"] | {"place": "replicas"}} if deployment["engine"]["kind"] == "echo" else {}


def _relative(tree: Tree) -> list[str]:
    """Paths that mean something on this machine only."""
    server, weights = tree.get("server") or {}, tree.get("weights") or {}
    paths = [("server.state_dir", server.get("state_dir", ".clinserve")), ("weights.folder", weights.get("folder"))]
    for guard in tree.get("guards") or ():
        paths += [(f"guard '{guard['name']}': {name}", guard.get(name)) for name in ("terms_file", "patterns_file")]
    for d in tree["deployments"]:
        paths.append((f"deployment '{d['name']}': scaling.profile", (d.get("scaling") or {}).get("profile")))
        paths.append((f"deployment '{d['name']}': adapters_file", d.get("adapters_file")))
    found = [(place, path) for place, path in paths if path and not path.startswith("/")]
    sources = [
        (f"deployment '{d['name']}': {place}.source", (pinned or {}).get("source", ""))
        for d in tree["deployments"]
        for place, pinned in [
            ("model", d.get("model")),
            *((f"adapter '{a['name']}'", a) for a in d.get("adapters") or ()),
        ]
    ]
    found += [(place, source) for place, source in sources if source.startswith(".")]
    return [f"{place}: {path} is relative; name the path on the machines that it runs on" for place, path in found]


def _problems(settings: Settings) -> list[str]:
    """What is well on one machine and not on several."""
    found = []
    if settings.server.runtime != "ray":
        found.append("server.runtime: Ray Serve runs 'ray' only")
    if settings.server.host in _LOOPBACK:
        found.append(f"server.host: other machines cannot reach {settings.server.host}; use 0.0.0.0")
    for deployment in settings.deployments:
        if deployment.model.source.startswith("/") and not deployment.model.digest:
            found.append(
                f"deployment '{deployment.name}': model.digest: a directory needs one, for the gateways may run "
                "where it is not; 'clinserve weights digest DIR' prints it"
            )
    return found


def gateway(args: Tree) -> Application:
    """Called by Ray Serve, on any machine of the cluster."""
    settings = _settings(args)
    # A pod has a container for scrapes, on the port that this would take (`clinserve metrics`).
    telemetry = settings.telemetry.model_copy(update={"metrics_port": 0})
    return applications.gateway_application(settings.model_copy(update={"telemetry": telemetry}))


def engine(args: Tree) -> Application:
    """Called by Ray Serve, on any machine of the cluster."""
    settings = _settings(args)
    (deployment,) = settings.deployments
    return applications.engine_application(settings, deployment)


def _settings(args: Tree) -> Settings:
    return config.parse(args["config"], elsewhere=True)
