"""A log file of a set size that several processes share: each writes whole lines, and whoever finds it full turns it.

logging.handlers.RotatingFileHandler is for one process: of two, one goes on in the file that the other has moved.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path


class RotatedFile:
    """size: bytes, about which the file becomes NAME.1, NAME.1 becomes NAME.2, up to NAME.`keep`; older ones go."""

    def __init__(self, path: Path, *, size: int, keep: int) -> None:
        self._path = path
        self._size = size
        self._keep = keep
        self._fd = -1
        self._inode = 0
        self._torn = False
        with contextlib.suppress(OSError):  # a disk that is away or full now is tried again with each line
            self._open()

    def write(self, text: str) -> int:
        """In one call, which the system appends whole; one that a full disk has cut is ended before the next.

        Raises OSError.
        """
        line = (b"\n" if self._torn else b"") + text.encode()
        if self._fd < 0:
            self._open()
        if self._is_elsewhere() or os.fstat(self._fd).st_size + len(line) > self._size:
            self._turn(len(line))
        if (written := os.write(self._fd, line)) < len(line):
            self._torn = True
            raise OSError(errno.ENOSPC, f"only {written} of {len(line)} bytes were written")
        self._torn = False
        return len(text)

    def flush(self) -> None: ...

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._inode = os.fstat(self._fd).st_ino

    def _is_elsewhere(self) -> bool:
        """Another process, or logrotate, has put the file aside."""
        try:
            return self._path.stat().st_ino != self._inode
        except FileNotFoundError:
            return True

    def _turn(self, coming: int) -> None:
        """Go over to the current file; if that is full too, put a new one in its place. One process at a time."""
        lock = os.open(self._path.with_name(self._path.name + ".lock"), os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._reopen()
            if 0 < os.fstat(self._fd).st_size > self._size - coming:
                self._move()
                self._reopen()
        finally:
            os.close(lock)

    def _reopen(self) -> None:
        self.close()
        self._open()

    def _move(self) -> None:
        for number in range(self._keep, 0, -1):
            older = self._numbered(number - 1) if number > 1 else self._path
            if older.exists():
                older.replace(self._numbered(number))
        if not self._keep:
            self._path.unlink()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
