"""Files of ours on a disk that may be full, read-only or failing: written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
PARTIAL = ".partial"
"""The end of a name that a file has until it is whole. Who finds an old one may delete it: its writer is dead."""


def is_full(error: OSError) -> bool:
    """Does making room help?"""
    return error.errno in _NO_ROOM


def write_whole(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Put a file in place, on the disk for good; a crash leaves what was there before. Raises OSError, and then too."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PARTIAL}")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in it last. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
