"""One digest over a directory of weights, which an operator can compute with find, sort and sha256sum."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serving.weights.files import files_of
from serving.weights.source import WeightsError

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_THREADS = 4


def digest_of(directory: Path, names: Iterable[str] | None = None) -> str:
    """SHA-256 over the lines `SHA256  NAME` of all files, in the order of their names' bytes: of what sha256sum prints.

    names: of the files; files_of(directory) unless given. Raises WeightsError.
    """

    def line(name: str) -> bytes:
        with (directory / name).open("rb") as file:
            one = hashlib.file_digest(file, "sha256")
        return f"{one.hexdigest()}  ".encode() + os.fsencode(name) + b"\n"

    whole, names = hashlib.sha256(), files_of(directory) if names is None else list(names)
    if not names:
        raise WeightsError(f"{directory} holds no files")
    try:
        with ThreadPoolExecutor(_THREADS) as pool:  # hashing leaves Python's lock
            for text in pool.map(line, names):
                whole.update(text)
    except OSError as error:
        raise WeightsError(f"{error.filename or directory} cannot be read: {error.strerror}") from None
    return f"sha256:{whole.hexdigest()}"


class Digests:
    """Digests of directories, remembered by their files' sizes and times: hashing reads some GB a second at most.

    cache: the file that remembers. Without it, or when it cannot be written, everything is hashed again.
    """

    def __init__(self, cache: Path) -> None:
        self._cache = cache

    def of(self, directory: Path) -> str:
        """Raises WeightsError."""
        state = _state_of(directory)
        entry = self._read().get(str(directory))
        if entry is not None and entry.get("files") == state and DIGEST.fullmatch(str(entry.get("digest"))):
            return str(entry["digest"])
        digest = digest_of(directory)
        self.remember(directory, digest)
        return digest

    def remember(self, directory: Path, digest: str) -> None:
        entry = {"files": _state_of(directory), "digest": digest}
        fresh = self._cache.with_name(f"{self._cache.name}.{secrets.token_hex(4)}")
        try:
            self._cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh.write_text(json.dumps(self._read() | {str(directory): entry}))
            fresh.replace(self._cache)  # whole: other replicas read it meanwhile
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink()

    def _read(self) -> dict[str, dict[str, object]]:
        try:
            value = json.loads(self._cache.read_text())
        except (OSError, ValueError, RecursionError):
            return {}
        return (
            {path: entry for path, entry in value.items() if isinstance(entry, dict)} if isinstance(value, dict) else {}
        )


def _state_of(directory: Path) -> list[list[object]]:
    found = ((name, (directory / name).stat()) for name in files_of(directory))
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in found]
