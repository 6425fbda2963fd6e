"""Files of metrics on a disk that may be full: prometheus_client's own would end the process.

It maps a file that it has only lengthened. On a full disk the first write into such a hole is no error that could be
caught: the system ends the process with SIGBUS, a gateway with all its streams. Here the blocks are there before they
are written to; where there are none, values are counted in memory, and go to the file when there is room.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
import time
from pathlib import Path
from typing import Any

from prometheus_client import mmap_dict, values

_TRY_SECONDS = 10.0
_SIZE = 1 << 16
_log = logging.getLogger(__name__)


class ReservedDict(mmap_dict.MmapedDict):
    """Of the same format. strict: raises OSError where there is no room, instead of going on in memory."""

    def __init__(self, filename: str, read_mode: bool = False, *, strict: bool = False) -> None:
        self._strict = strict
        self._detached_at: float | None = None
        try:
            _reserve(filename)
        except OSError as error:
            if strict:
                raise
            self._f: Any = None
            self._fname = filename
            self._capacity, self._used, self._positions = _SIZE, 8, {}
            self._m = mmap.mmap(-1, self._capacity)
            self._m[0:4] = struct.pack("i", self._used)
            self._detach(error)
        else:
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        if self._detached_at is not None and time.monotonic() - self._detached_at > _TRY_SECONDS:
            self._attach()
        super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        if self._f is None:
            self._m.close()
        super().close()  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        while self._used + len(key.encode()) + 32 > self._capacity:
            self._grow()
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _grow(self) -> None:
        if self._f is not None:
            try:
                os.posix_fallocate(self._f.fileno(), 0, 2 * self._capacity)
                self._m = mmap.mmap(self._f.fileno(), 2 * self._capacity)
                self._capacity *= 2
                return
            except OSError as error:
                if self._strict:
                    raise
                self._f.close()
                self._f = None
                self._detach(error)
        self._into(mmap.mmap(-1, 2 * self._capacity))

    def _attach(self) -> None:
        """Back to the file, with all that was counted meanwhile."""
        self._detached_at = time.monotonic()
        try:
            _reserve(self._fname, self._capacity)
            file = Path(self._fname).open("a+b")  # noqa: SIM115  # as long as the process lives
            file.truncate(self._capacity)
            self._into(mmap.mmap(file.fileno(), self._capacity))
        except OSError:
            return
        self._f, self._detached_at = file, None
        _log.warning("metrics: %s is written again", Path(self._fname).name)

    def _into(self, fresh: mmap.mmap) -> None:
        fresh[4 : self._used] = self._m[4 : self._used]
        fresh[0:4] = self._m[0:4]
        self._m, self._capacity = fresh, len(fresh)

    def _detach(self, error: OSError) -> None:
        self._detached_at = time.monotonic()
        _log.error("metrics: %s cannot be written: %s. It is kept in memory", Path(self._fname).name, error.strerror)


def reserve_files() -> None:
    """Have all metrics of this process, vLLM's too, in such files. Before the first is made."""
    values.MmapedDict = ReservedDict  # type: ignore[attr-defined]


def _reserve(filename: Any, size: int = _SIZE) -> None:
    """Blocks for the whole file. Raises OSError."""
    descriptor = os.open(filename, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, max(size, os.fstat(descriptor).st_size))
    finally:
        os.close(descriptor)
