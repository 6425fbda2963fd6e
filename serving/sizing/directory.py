"""A model in a directory: its config.json, and how large its weights really are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.sizing.errors import UnreadableModel


def config_in(directory: Path) -> Mapping[str, Any]:
    """What its config.json holds. Raises UnreadableModel."""
    file = directory / "config.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableModel(f"{file}: {error.strerror}; a model's directory has one") from None
    except ValueError:
        raise UnreadableModel(f"{file} is not valid JSON") from None
    if not isinstance(found, Mapping):
        raise UnreadableModel(f"{file} holds no settings of a model")
    return found


def weight_bytes_in(directory: Path) -> int | None:
    """As the safetensors index says, or as large as the files are; None where there are no weights."""
    index = directory / "model.safetensors.index.json"
    try:
        return int(json.loads(index.read_text(encoding="utf-8"))["metadata"]["total_size"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # a model in one file has no index, and some that were split by hand lack the sum
    return sum(file.stat().st_size for file in directory.glob("*.safetensors")) or None
