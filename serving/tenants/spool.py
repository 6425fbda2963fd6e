"""The spool: records that could not be written to their store, in files, until some process can write them.

A file is written whole or not at all, so one that cannot be read was damaged, or is none of ours. It never keeps a
process from starting: what can be read of it is delivered, and then it is set aside, NAME.bad, for somebody to look at.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Generic, TypeVar, get_type_hints

from pydantic import TypeAdapter

from serving.disk import PARTIAL, write_whole

T = TypeVar("T")
_ENDING, _BAD = ".jsonl", ".bad"
_MOST_BAD = 100
_LONGEST_LINE = 2**20
_LARGEST_FILE = 2**30
_OLD_SECONDS = 600.0  # a file that is being written is younger
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class SpoolFile(Generic[T]):
    """records: those that can be read. whole: all could be."""

    path: Path
    records: list[T] = field(default_factory=list)
    whole: bool = True


class Spool(Generic[T]):
    """folder: several processes may share it; each delivers what it finds, and the store knows what comes twice.

    encode, decode: to and from plain JSON values. decode raises ValueError, TypeError or LookupError for what is no
    record.
    """

    def __init__(
        self,
        folder: Path,
        encode: Callable[[T], object],
        decode: Callable[[object], T],
    ) -> None:
        self._folder = folder
        self._encode = encode
        self._decode = decode

    def keep(self, records: Sequence[T]) -> None:
        """In a file of their own. Raises OSError, and then nothing is kept."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = "".join(json.dumps(self._encode(record)) + "\n" for record in records)
        write_whole(self._folder / f"{time.time_ns():020d}-{secrets.token_hex(4)}{_ENDING}", text.encode())

    def keep_aside(self, record: T) -> None:
        """One that the store refuses, for somebody to look at. Raises OSError, and then nothing is kept."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}{_ENDING}{_BAD}"
        write_whole(self._folder / name, (json.dumps(self._encode(record)) + "\n").encode())
        self._forget_oldest()

    def files(self) -> Iterator[SpoolFile[T]]:
        """What there is, the oldest first, each read when it is asked for. Raises nothing."""
        for path in self._paths():
            with contextlib.suppress(FileNotFoundError):  # another process has delivered it
                yield self._read(path)

    def done(self, file: SpoolFile[T]) -> None:
        """Its records are in the store. Raises nothing."""
        if not file.whole:
            return self.set_aside(file)
        try:
            file.path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("spool: %s cannot be deleted: %s", file.path.name, error.strerror)

    def set_aside(self, file: SpoolFile[T]) -> None:
        """For somebody to look at; the oldest of too many go. Raises nothing."""
        try:
            file.path.rename(file.path.with_name(f"{file.path.name.lstrip('.')}{_BAD}"))
        except FileNotFoundError:
            return  # another process was first
        except OSError as error:
            _log.error("spool: %s cannot be read, nor set aside: %s", file.path.name, error.strerror)
            return
        _log.error("spool: %s is damaged: set aside as %s", file.path, _BAD)
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        for old in bad_files(self._folder)[:-_MOST_BAD]:
            with contextlib.suppress(OSError):
                shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()

    def _paths(self) -> list[Path]:
        """Also those that a process which died did not finish: some of their lines may be whole."""
        found = []
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    unfinished = entry.name.endswith(PARTIAL) and _is_old(entry)
                    if entry.name.endswith(_ENDING) or unfinished:
                        found.append(Path(entry.path))
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.error("spool: %s cannot be read: %s", self._folder, error.strerror)
        return sorted(found, key=lambda path: path.name.lstrip("."))

    def _read(self, path: Path) -> SpoolFile[T]:
        found = SpoolFile[T](path)
        try:
            with _opened(path) as file:
                while line := file.readline(_LONGEST_LINE):
                    try:
                        if not line.endswith(b"\n"):
                            raise ValueError("torn")
                        found.records.append(self._decode(json.loads(line)))
                    except (ValueError, TypeError, LookupError, RecursionError, OverflowError):
                        found.whole = False
        except FileNotFoundError:
            raise
        except (OSError, ValueError):
            found.whole = False
        found.whole = found.whole and bool(found.records)
        return found


def storable(kind: type[T]) -> Callable[[dict[str, Any]], T]:
    """Reads values as a dataclass of this class, exactly. Raises ValueError, TypeError or LookupError for what a
    database would not take: one such record would keep all behind it waiting.
    """
    adapters = {name: TypeAdapter(hint) for name, hint in get_type_hints(kind).items()}

    def read(values: dict[str, Any]) -> T:
        checked = {name: adapters[name].validate_python(value, strict=True) for name, value in values.items()}
        for value in checked.values():
            _check(value)
        return kind(**checked)

    return read


def _check(value: object) -> None:
    if isinstance(value, str) and b"\0" in value.encode():  # encode: half a surrogate is a ValueError as well
        raise ValueError("a text that PostgreSQL does not take")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a number beyond 64 bits")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("no number")
    if isinstance(value, datetime) and value.tzinfo is None:
        raise ValueError("a time without a zone")


def bad_files(folder: Path) -> list[Path]:
    """What was set aside in a spool, the oldest first. Raises nothing."""
    try:
        found = [(entry.stat(follow_symlinks=False).st_mtime, entry.path) for entry in os.scandir(folder)]
    except OSError:
        return []
    return [Path(path) for _, path in sorted(found) if path.endswith(_BAD)]


def _is_old(entry: os.DirEntry[str]) -> bool:
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > _OLD_SECONDS
    except OSError:
        return False


def _opened(path: Path) -> IO[bytes]:
    """Neither what a link points to, nor a device or pipe, which may never end. Raises OSError, ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode) or about.st_size > _LARGEST_FILE:
        os.close(descriptor)
        raise ValueError("no file of ours")
    return os.fdopen(descriptor, "rb")
