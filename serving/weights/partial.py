"""A file on its way here: what there is of it outlives a crash."""

from __future__ import annotations

import json
import os
from pathlib import Path

from serving.weights.blobs import Blob

_HERE, _MISSING = b"x", b"-"


class Partial:
    """`files/NAME`, with holes, and `marks/NAME`: which version of which blob, and a sign for each piece of it.

    A version that is not the marks' begins anew.
    """

    def __init__(self, folder: Path, blob: Blob, piece: int) -> None:
        self.blob = blob
        self._piece = piece
        self._file, self._marks = folder / "files" / blob.name, folder / "marks" / blob.name
        self._head = json.dumps({"etag": blob.etag, "size": blob.size, "piece": piece}).encode() + b"\n"
        if not self._known():
            self._begin()

    def missing(self) -> list[int]:
        """Where the pieces begin that are not here."""
        signs = self._marks.read_bytes()[len(self._head) :]
        return [index * self._piece for index in range(len(signs)) if signs[index : index + 1] != _HERE]

    def left(self) -> int:
        """Bytes that are not here."""
        return sum(min(self._piece, self.blob.size - start) for start in self.missing())

    def keep(self, start: int, data: bytes) -> None:
        with self._file.open("r+b") as file:
            os.pwrite(file.fileno(), data, start)
            os.fsync(file.fileno())  # before the mark: after a power failure a mark must not promise what is not there
        with self._marks.open("r+b") as marks:
            os.pwrite(marks.fileno(), _HERE, len(self._head) + start // self._piece)

    def _known(self) -> bool:
        try:
            marks, pieces = self._marks.read_bytes(), -(-self.blob.size // self._piece)
            whole = marks.startswith(self._head) and len(marks) == len(self._head) + pieces
            return self._file.stat().st_size == self.blob.size and whole
        except OSError:
            return False

    def _begin(self) -> None:
        for path in (self._marks, self._file):  # the marks first
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("wb") as file:
            file.truncate(self.blob.size)
        fresh = self._marks.with_name(f".{self._marks.name}")
        fresh.write_bytes(self._head + _MISSING * -(-self.blob.size // self._piece))
        fresh.replace(self._marks)
