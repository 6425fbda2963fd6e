"""An audit log outside its database: JSON lines, first every checkpoint, then every record, by chain and place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Protocol

from pydantic import TypeAdapter

from serving.errors import InvalidRequest
from serving.tenants.audit import Checkpoint, Head, Record, Unreadable, strict_json
from serving.tenants.audit_anchors import AnchorFolder
from serving.tenants.audit_store import AuditStore


class Log(Protocol):
    def checkpoints(self) -> Iterator[Checkpoint | Unreadable]: ...
    def records(self) -> Iterator[Record | Unreadable]: ...


class StoredLog:
    """A log in its database, as far as it had come when this was made: gateways go on writing."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store
        self._ends = {head.chain: head.seq for head in store.heads()}

    def checkpoints(self) -> Iterator[Checkpoint | Unreadable]:
        return (one for one in self._store.checkpoints() if self._was_there(one))

    def records(self) -> Iterator[Record | Unreadable]:
        return (one for one in self._store.records() if self._was_there(one))

    def _was_there(self, one: Record | Checkpoint | Unreadable) -> bool:
        # A checkpoint stays where all records of its chain were pruned.
        return isinstance(one, Unreadable) or one.seq <= self._ends.get(one.chain, 0)


class ExportedLog:
    """A log in a file. A line that is none of ours is unreadable, which is a finding of whoever verifies."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> None:
        """Raises InvalidRequest for another file, of which no line is ours."""
        ours = [isinstance(one, Unreadable) for _, one in zip(range(100), self._all(), strict=False)]
        if ours and all(ours):
            raise InvalidRequest(f"{self._path} is not an exported audit log")

    def checkpoints(self) -> Iterator[Checkpoint | Unreadable]:
        return (one for one in self._all() if isinstance(one, Checkpoint))

    def records(self) -> Iterator[Record | Unreadable]:
        return (one for one in self._all() if not isinstance(one, Checkpoint))

    def _all(self) -> Iterator[Record | Checkpoint | Unreadable]:
        for number, line in lines_of(self._path):
            yield _one_in(line) or Unreadable("", number, f"changed: line {number} of the file cannot be read")


def _one_in(line: object) -> Record | Checkpoint | None:
    if not isinstance(line, dict) or len(line) != 1:
        return None
    ((name, values),) = line.items()
    kind = _KINDS.get(name)
    if kind is None or not isinstance(values, dict) or values.keys() != {field.name for field in fields(kind)}:
        return None
    try:
        one: Record | Checkpoint = TypeAdapter(kind).validate_json(json.dumps(values), strict=True)
    except ValueError:
        return None
    return one if one.at.tzinfo is not None else None


_KINDS: dict[str, type[Record | Checkpoint]] = {"record": Record, "checkpoint": Checkpoint}


def export(log: StoredLog) -> Iterator[str]:
    """The lines of a file that an ExportedLog reads. What cannot be read is left out, and is missing there."""
    for checkpoint in log.checkpoints():
        if isinstance(checkpoint, Checkpoint):
            yield _line("checkpoint", checkpoint)
    for record in log.records():
        if isinstance(record, Record):
            yield _line("record", record)


def anchors_in(path: Path) -> list[Head | Checkpoint | Unreadable]:
    """What a folder of anchors says, or a request log. Raises OSError, and InvalidRequest for one that names none."""
    found: list[Head | Checkpoint | Unreadable] = []
    found += AnchorFolder(path).all() if path.is_dir() else anchors_of_log(path)
    if not found:
        raise InvalidRequest(f"{path}: there is no anchor of an audit log in it")
    return found


def anchors_of_log(request_log: Path) -> Iterator[Head | Checkpoint | Unreadable]:
    """Where chains ended, as the request log has it. Other lines of it are nothing to us, whole or not."""
    for number, line in lines_of(request_log, only=b"audit_checkpoint"):
        if isinstance(line, dict) and line.get("event") != "audit_checkpoint":
            continue
        values = (line.get("chain"), line.get("seq"), line.get("hash")) if isinstance(line, dict) else ()
        match values:
            case (str(chain), int(seq), str(hash)) if not isinstance(seq, bool):
                yield Head(chain, seq, hash)
            case _:
                yield Unreadable("", number, f"changed: the anchor in line {number} of the request log cannot be read")


def lines_of(path: Path, *, only: bytes = b"") -> Iterator[tuple[int, Any]]:
    """What the lines hold, with their numbers; None for one that is no JSON of ours. Raises OSError."""
    with path.open("rb") as lines:
        for number, text in enumerate(lines, 1):
            if only not in text:
                continue
            try:
                yield number, strict_json(text.decode())
            except ValueError:
                yield number, None


def _line(kind: str, one: Checkpoint | Record) -> str:
    return json.dumps({kind: asdict(one) | {"at": one.at.isoformat()}}, separators=(",", ":")) + "\n"
