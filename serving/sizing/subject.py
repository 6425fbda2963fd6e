"""What is planned for: an entry of the catalogue, or any directory with a model in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from serving.sizing.architecture import Architecture, architecture_of
from serving.sizing.catalog import Entry, entry_named
from serving.sizing.directory import config_in, weight_bytes_in


@dataclass(frozen=True, slots=True)
class Subject:
    """name: for a deployment of it. source: for model.source. weights: bytes on the disk, where they are here."""

    name: str
    title: str
    source: str
    architecture: Architecture
    weights: int | None = None
    entry: Entry | None = None


def subject(model: str, entries: Mapping[str, Entry]) -> Subject:
    """A directory, where there is one of this name; else the catalogue's. Raises UnknownModel, UnreadableModel."""
    directory = Path(model)
    if directory.is_dir():
        name = re.sub(r"[^a-z0-9._-]+", "-", directory.resolve().name.lower()).strip("-._") or "model"
        architecture = architecture_of(config_in(directory))
        return Subject(name, model, str(directory.resolve()), architecture, weight_bytes_in(directory))
    entry = entry_named(model, entries)
    return Subject(entry.name, entry.title, f"hf://{entry.source}", entry.architecture, entry=entry)
