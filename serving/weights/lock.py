"""One process of this machine at a time; the others wait. A process that dies lets go."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_POLL_SECONDS = 0.2


@contextlib.contextmanager
def alone(file: Path, *, waiting: Callable[[], None]) -> Iterator[None]:
    """waiting: is called once, when another has the lock. Raises OSError."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        told = False
        while not _taken(handle):
            if not told:
                waiting()
                told = True
            time.sleep(_POLL_SECONDS)  # not a blocking lock: Ctrl-C must reach us
        yield
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
