"""Anchors: how far each chain of the audit log had come, signed, and kept apart from its database.

A log that is cut off in the database, or lost a chain, or all of them, contradicts its anchors. A file for each chain
holds the chain's newest checkpoint, whose place is also the number of its records.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Protocol

from serving.disk import write_whole
from serving.tenants.audit import CHAIN_NAME, Checkpoint, Unreadable, strict_json

_LARGEST = 64 * 2**10
_log = logging.getLogger(__name__)


class Anchors(Protocol):
    def keep(self, checkpoint: Checkpoint) -> None:
        """The chain has come so far, and this is in its database. Raises nothing: it must stop no log."""

    def all(self) -> Iterator[Checkpoint | Unreadable]:
        """The newest of each chain. Raises OSError."""

    def forget(self, chain: str) -> None:
        """The log itself says that this chain was pruned whole. Raises nothing."""


class NoAnchors:
    """Anchors that are off."""

    def keep(self, checkpoint: Checkpoint) -> None: ...
    def forget(self, chain: str) -> None: ...

    def all(self) -> Iterator[Checkpoint | Unreadable]:
        return iter(())


class AnchorFolder:
    """Any number of processes may share the folder: each chain has one writer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, int] = {}
        self._fails = False
        self._lock = threading.Lock()

    def keep(self, checkpoint: Checkpoint) -> None:
        with self._lock:
            try:
                self._keep(checkpoint)
            except OSError as error:
                if not self._fails:
                    _log.error("audit: anchors cannot be kept in %s: %s", self._folder, error.strerror)
                self._fails = True
            else:
                self._fails = False

    def _keep(self, checkpoint: Checkpoint) -> None:
        path = self._path_of(checkpoint.chain)
        if checkpoint.chain not in self._kept:
            before = _read(path) if path.exists() else None
            self._kept[checkpoint.chain] = before.seq if isinstance(before, Checkpoint) else 0
        if checkpoint.seq <= self._kept[checkpoint.chain]:
            return  # what an earlier process could not deliver may come twice
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, written(checkpoint).encode())
        self._kept[checkpoint.chain] = checkpoint.seq

    def all(self) -> Iterator[Checkpoint | Unreadable]:
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield _read(path)
            except FileNotFoundError:
                continue  # its chain was pruned whole just now

    def forget(self, chain: str) -> None:
        with self._lock:
            self._kept.pop(chain, None)
            try:
                self._path_of(chain).unlink(missing_ok=True)
            except OSError as error:
                _log.warning("audit: the anchor of a chain cannot be deleted: %s", error.strerror)

    def _path_of(self, chain: str) -> Path:
        if not CHAIN_NAME.fullmatch(chain):
            raise FileNotFoundError(chain)
        return self._folder / f"{chain}.json"


def written(checkpoint: Checkpoint) -> str:
    return json.dumps(asdict(checkpoint) | {"at": checkpoint.at.isoformat()}, separators=(",", ":")) + "\n"


def checkpoint_in(value: object) -> Checkpoint | None:
    """None for what is none."""
    if not isinstance(value, dict):
        return None
    texts = [value.get(name) for name in ("chain", "at", "hash", "signature")]
    seq = value.get("seq")
    if not all(isinstance(text, str) for text in texts) or not isinstance(seq, int) or isinstance(seq, bool):
        return None
    try:
        at = datetime.fromisoformat(value["at"])
    except ValueError:
        return None
    if at.tzinfo is None or not 0 < seq < 2**63:
        return None
    return Checkpoint(value["chain"], seq, at, value["hash"], value["signature"])


def _read(path: Path) -> Checkpoint | Unreadable:
    """Raises FileNotFoundError."""
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST).decode()
        found = checkpoint_in(strict_json(text))
    except FileNotFoundError:
        raise
    except (OSError, ValueError):
        found, text = None, ""
    if found is None or found.chain != path.stem or text != written(found):  # also the same in other words
        return Unreadable(path.stem, 0, "changed: its anchor cannot be read")
    return found
