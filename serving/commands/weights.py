"""`clinserve weights`: fetch, verify and name the weights of deployments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer

from serving.commands.progress import Progress
from serving.deployments import weights
from serving.settings import Deployment, Settings, SettingsError, VllmEngine
from serving.weights.digest import digest_of
from serving.weights.source import WeightsError
from serving.weights.store import match


def pull(settings: Settings, name: str | None) -> None:
    """Raises WeightsError, SettingsError."""
    progress = Progress()
    for deployment in _chosen(settings, name):
        with progress.step(f"Weights of {deployment.name}") as say:
            directory = weights.ready(settings, deployment, say)
        typer.echo(f"  {directory}")


def verify(settings: Settings, name: str | None) -> None:
    """Read every byte again, whatever is remembered. Raises WeightsError, SettingsError."""
    progress, store = Progress(), weights.store_of(settings)
    for deployment in _chosen(settings, name):
        wanted = weights.wanted_of(deployment)
        directory = store.present(wanted)
        if directory is None:
            raise WeightsError(f"{wanted.source} is not on this machine: clinserve weights pull {deployment.name}")
        with progress.step(f"Read the weights of {deployment.name}"):
            digest = digest_of(directory)
        if wanted.digest is not None:
            match(digest, wanted, directory)
        typer.echo(f"  {digest}  {directory}  {'as pinned' if wanted.digest else 'no digest is pinned'}")


def digest(directory: Path) -> None:
    """Raises WeightsError."""
    if not directory.is_dir():
        raise WeightsError(f"there is no directory {directory}")
    typer.echo(digest_of(directory))


def _chosen(settings: Settings, name: str | None) -> Iterator[Deployment]:
    """Those whose engine loads weights."""
    found = [d for d in settings.deployments if isinstance(d.engine, VllmEngine) and name in (None, d.name)]
    if name is not None and not found:
        raise SettingsError(f"there is no deployment '{name}' with weights in the configuration")
    yield from found
