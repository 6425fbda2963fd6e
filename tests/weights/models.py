"""Models for these tests: the bundled one, put into Azurite, and the store that fetches it."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Any

from serving.weights.digest import Digests, digest_of
from serving.weights.files import files_of
from serving.weights.source import BlobSource
from serving.weights.store import Store, Wanted
from tests.azurite import ACCOUNT, KEY, Azurite

DEMO = Path(__file__).parents[2] / "deploy/demo_model/clinical-demo"
SIZE = sum((DEMO / name).stat().st_size for name in files_of(DEMO))
PIECE = 256 * 2**10
CONNECTIONS = 4


def stored(azurite: Azurite, directory: Path = DEMO) -> BlobSource:
    """The directory below a prefix of a new container, beside something else."""
    source = BlobSource(ACCOUNT, f"weights-{secrets.token_hex(4)}", "models/demo")
    put(azurite, source, directory)
    azurite.container(source.container).upload_blob("models/demo-2/other.bin", b"not below the prefix")
    return source


def put(azurite: Azurite, source: BlobSource, directory: Path) -> None:
    container = azurite.container(source.container)
    for name in files_of(directory):
        container.upload_blob(f"{source.prefix}/{name}", (directory / name).read_bytes(), overwrite=True)


def wanted(source: BlobSource, directory: Path = DEMO, **more: Any) -> Wanted:
    return Wanted(source, digest_of(directory), **more)


def store_in(folder: Path, endpoint: str, **more: Any) -> Store:
    given = {"credential": lambda: KEY, "piece": PIECE, "waits": (0.1,) * 100} | more
    return Store(folder / "models", Digests(folder / "weights.json"), endpoint, CONNECTIONS, **given)


def copied(folder: Path) -> Path:
    """The demo model, to be changed."""
    return Path(shutil.copytree(DEMO, folder / "copy"))
