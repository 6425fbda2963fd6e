"""The weights of the configuration's deployments: from settings to what serving/weights works with."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from serving.settings import Adapter, Deployment, EchoEngine, HttpEngine, Settings
from serving.weights import source as weights
from serving.weights.digest import Digests
from serving.weights.store import Say, Store, Wanted

_log = logging.getLogger(__name__)
_SAY_SECONDS = 30.0


def wanted_of(deployment: Deployment) -> Wanted:
    """Of a deployment whose engine loads weights. Raises WeightsError."""
    model = deployment.model
    return Wanted(weights.parse(model.source, model.revision), model.digest, model.allow_pickle)


def store_of(settings: Settings) -> Store:
    of, state = settings.weights, settings.server.state_dir
    return Store(of.folder or state / "models", digests_of(settings), of.blob_endpoint, of.connections)


def digests_of(settings: Settings) -> Digests:
    return Digests(settings.server.state_dir / "weights.json")


def ready(settings: Settings, deployment: Deployment, say: Say | None = None) -> Path:
    """The directory that an engine on this machine may load, fetched and verified if need be. Raises WeightsError."""
    return store_of(settings).ready(wanted_of(deployment), say or _now_and_then(deployment.name))


def adapter_ready(settings: Settings, deployment: Deployment, adapter: Adapter) -> Path:
    """The same of a LoRA adapter."""
    wanted = Wanted(weights.parse(adapter.source, adapter.revision), adapter.digest)
    return store_of(settings).ready(wanted, _now_and_then(f"{deployment.name}:{adapter.name}"))


def revision_of(deployment: Deployment, digests: Digests) -> str:
    """Which weights a deployment runs, as one string, for the usage ledger and the audit log.

    The pinned digest, which a replica verifies before it serves; else `sha256:...` of a directory, `NAME@COMMIT` of a
    Hugging Face id, the engine's kind where there are no weights. Raises WeightsError.
    """
    if isinstance(deployment.engine, EchoEngine):
        return "echo"
    if isinstance(deployment.engine, HttpEngine):
        return f"http:{deployment.engine.model or deployment.name}"
    wanted = wanted_of(deployment)
    if wanted.digest is not None:
        return wanted.digest
    if isinstance(wanted.source, weights.FolderSource):
        return digests.of(wanted.source.path)
    return f"{deployment.model.source.removeprefix('hf://')}@{deployment.model.revision or 'unpinned'}"


def _now_and_then(name: str) -> Say:
    """Into the log. At the level of warnings: of a Ray replica, nothing below is to be seen."""
    last = 0.0

    def say(text: str) -> None:
        nonlocal last
        if time.monotonic() - last > _SAY_SECONDS:
            last = time.monotonic()
            _log.warning("weights of %s: %s", name, text)

    return say
