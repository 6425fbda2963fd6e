"""What `model.source` may say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_BLOB = re.compile(r"az://(?P<account>[a-z0-9]{3,24})/(?P<container>[a-z0-9-]{3,63})(?:/(?P<prefix>.+?))?/?")
_HUB = re.compile(r"(?:hf://)?(?P<name>[\w.-]+(?:/[\w.-]+)?)", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


class WeightsError(Exception):
    """Weights cannot be had or must not be used. One line that names the place and the remedy."""


@dataclass(frozen=True, slots=True)
class BlobSource:
    """Blobs below a prefix of a container."""

    account: str
    container: str
    prefix: str

    def __str__(self) -> str:
        return "/".join(filter(None, (f"az://{self.account}", self.container, self.prefix)))


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository of a Hugging Face hub."""

    name: str
    revision: str | None

    def __str__(self) -> str:
        return f"hf://{self.name}"

    @property
    def pinned(self) -> bool:
        """To a commit; a branch or a tag moves."""
        return bool(self.revision and _COMMIT.fullmatch(self.revision))


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A directory of this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


Source = BlobSource | HubSource | FolderSource


def parse(text: str, revision: str | None = None) -> Source:
    """Raises WeightsError. A bare name is taken for a Hugging Face id, an absolute path for a directory."""
    if text.startswith("/"):
        return FolderSource(Path(text))
    if (blob := _BLOB.fullmatch(text)) and not {"", ".", ".."} & set((blob["prefix"] or "x").split("/")):
        return BlobSource(blob["account"], blob["container"], blob["prefix"] or "")
    if hub := _HUB.fullmatch(text):
        return HubSource(hub["name"], revision)
    raise WeightsError(
        f"'{text}' is no source of weights: az://ACCOUNT/CONTAINER/PREFIX, hf://ORG/NAME or a directory is"
    )
