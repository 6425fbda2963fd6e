"""The metrics of processes that have ended, in as many files as there are kinds of metrics.

prometheus_client leaves each process's files behind, so that sums never fall; with replicas that come and go they pile
up, and every scrape reads them all. Here what has ended is added up into files of its own:

    counter_PID.db ...       of processes, most of which live
    ended-7/counter_sum.db   of all that have ended; with files in it that are not yet added up
    ended-8/                 the next sum. Once it has this name it holds all of ended-7, which is deleted then

Each step is one rename, so whoever is killed in the midst of it leaves nothing lost and nothing counted twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import struct
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from serving.telemetry.mapped import ReservedDict

_FOLDER = "ended-"
_NEXT = "next"
_SUM = "sum"
_log = logging.getLogger(__name__)


@contextmanager
def counted_files(directory: Path) -> Iterator[list[Path]]:
    """Every file that counts, until the context ends. What has ended since the last call is added up before.

    A gauge says what is now, so those of a process that has ended are deleted.
    """
    with _alone(directory):
        ended = _latest(directory)
        for file in directory.glob("*.db"):
            if file.is_file() and not _lives(pid := file.stem.rpartition("_")[2]):
                _put_away(file, pid, ended)
        try:
            ended = _added_up(ended)
        except OSError as error:  # the disk is full: what is in the folder counts as it is
            _log.warning("metrics: those of ended processes cannot be added up: %s", error.strerror)
        # Empty: of a process that is just opening it.
        yield [file for folder in (directory, ended) for file in folder.glob("*.db") if _size(file)]


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One process at a time; the system frees the lock of one that is killed."""
    lock = os.open(directory / "lock", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _latest(directory: Path) -> Path:
    """The folder that counts. Older ones are in it, and one without a number was never finished."""
    names = {folder.name.removeprefix(_FOLDER) for folder in directory.glob(f"{_FOLDER}*")}
    last = max((int(name) for name in names if name.isdecimal()), default=0)
    for name in names - {str(last)}:
        shutil.rmtree(directory / f"{_FOLDER}{name}", ignore_errors=True)
    latest = directory / f"{_FOLDER}{last}"
    latest.mkdir(exist_ok=True)
    return latest


def _put_away(file: Path, pid: str, ended: Path) -> None:
    if file.name.startswith("gauge_"):
        return file.unlink()
    # A kind, and a number that no other file there has: pids come again.
    away = ended / f"{file.name.partition('_')[0]}_{file.stat().st_ino}.db"
    file.rename(away)
    if _lives(pid) and not file.exists():  # a new process has this pid, and may just have opened the old one's file
        away.rename(file)


def _added_up(ended: Path) -> Path:
    """A folder with one file for each kind; this one, if it is so already."""
    files = list(ended.glob("*.db"))
    if all(file.stem.endswith(f"_{_SUM}") for file in files):
        return ended
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for file in files:
        for key, value in _values(file):
            sums[file.name.partition("_")[0]][key] += value
    coming = ended.with_name(f"{_FOLDER}{_NEXT}")
    shutil.rmtree(coming, ignore_errors=True)
    coming.mkdir()
    for kind, values in sums.items():
        summed = ReservedDict(str(coming / f"{kind}_{_SUM}.db"), strict=True)
        for key, value in values.items():
            summed.write_value(key, value, 0.0)
        summed.close()
    added_up = coming.rename(ended.with_name(f"{_FOLDER}{int(ended.name.removeprefix(_FOLDER)) + 1}"))
    shutil.rmtree(ended)
    return added_up


_DAMAGED = (RuntimeError, struct.error, ValueError, TypeError, OSError, RecursionError, MemoryError)


def _values(file: Path) -> Iterator[tuple[str, float]]:
    """What can be read; a process that was killed while it opened its file leaves half a one."""
    try:
        yield from _checked(file)
    except _DAMAGED:
        _log.warning("metrics: %s of a process that has ended is not whole", file.name)


def readable(files: Sequence[Path]) -> list[Path]:
    """Those of which all can be read. The others are set aside as NAME.bad: one would keep all from being scraped."""
    good = []
    for file in files:
        try:
            deque(_checked(file), maxlen=0)
            good.append(file)
        except _DAMAGED:
            _log.error("metrics: %s is damaged: set aside as .bad", file.name)
            with contextlib.suppress(OSError):
                file.rename(file.with_name(f"{file.name}.bad"))
    return good


def _checked(file: Path) -> Iterator[tuple[str, float]]:
    for key, value, *_ in ReservedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
        _, _, labels, _ = json.loads(key)
        dict(labels)
        yield key, value


def _size(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:
        return 0


def _lives(pid: str) -> bool:
    return Path(f"/proc/{pid}").exists()
