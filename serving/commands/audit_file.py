"""An audit log outside its database: JSON lines, first every checkpoint, then every record, by chain and place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from serving.errors import InvalidRequest
from serving.tenants.audit import Checkpoint, Head, Record
from serving.tenants.audit_store import AuditStore

T = TypeVar("T")


class Log(Protocol):
    def checkpoints(self) -> Iterator[Checkpoint]: ...
    def records(self) -> Iterator[Record]: ...


class StoredLog:
    """A log in its database, as far as it had come when this was made: gateways go on writing."""

    def __init__(self, store: AuditStore) -> None:
        self._store = store
        self._ends = {head.chain: head.seq for head in store.heads()}

    def checkpoints(self) -> Iterator[Checkpoint]:
        return (one for one in self._store.checkpoints() if one.seq <= self._ends.get(one.chain, 0))

    def records(self) -> Iterator[Record]:
        return (one for one in self._store.records() if one.seq <= self._ends.get(one.chain, 0))


class ExportedLog:
    """A log in a file. Raises InvalidRequest for a line that is none of ours."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def checkpoints(self) -> Iterator[Checkpoint]:
        return self._all("checkpoint", TypeAdapter(Checkpoint))

    def records(self) -> Iterator[Record]:
        return self._all("record", TypeAdapter(Record))

    def _all(self, kind: str, shape: TypeAdapter[T]) -> Iterator[T]:
        for number, line in lines_of(self._path):
            if not {"checkpoint", "record"} & line.keys():
                raise InvalidRequest(f"{self._path}: line {number} is not of an exported audit log")
            if kind in line:
                try:
                    yield shape.validate_python(line[kind])
                except ValidationError:
                    raise InvalidRequest(f"{self._path}: line {number} is not a {kind}") from None


def export(log: StoredLog) -> Iterator[str]:
    """The lines of a file that an ExportedLog reads."""
    for checkpoint in log.checkpoints():
        yield _line("checkpoint", checkpoint)
    for record in log.records():
        yield _line("record", record)


def anchors_in(request_log: Path) -> list[Head]:
    """Where chains ended, as the request log has it."""
    try:
        return [
            Head(str(line["chain"]), int(line["seq"]), str(line["hash"]))
            for _, line in lines_of(request_log)
            if line.get("event") == "audit_checkpoint"
        ]
    except (KeyError, TypeError, ValueError):
        raise InvalidRequest(f"{request_log}: not a request log") from None


def lines_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects with the numbers of their lines. Raises InvalidRequest."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, text in enumerate(lines, 1):
            try:
                line = json.loads(text)
            except ValueError:
                line = None
            if not isinstance(line, dict):
                raise InvalidRequest(f"{path}: line {number} is not a JSON object")
            yield number, line


def _line(kind: str, one: Checkpoint | Record) -> str:
    return json.dumps({kind: asdict(one) | {"at": one.at.isoformat()}}, separators=(",", ":")) + "\n"
