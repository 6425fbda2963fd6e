"""What a process of ours shows to others on its machine: as little as Linux lets it.

Memory holds prompts, answers and secrets; files hold the same, sealed or not. Neither is for the machine's other users.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import secrets
from pathlib import Path

_PR_SET_DUMPABLE = 4
_OWNER_ONLY = 0o077


def keep_private() -> None:
    """For every process, before it opens anything: no core dump, and files for their owner alone.

    Children inherit both, Ray's workers, HAProxy and vLLM's processes among them.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(_OWNER_ONLY)


def share_files() -> None:
    """Undo `keep_private` for files: others may read what is made from here on."""
    os.umask(0o022)


def keep_memory_private() -> None:
    """For a process that holds secrets: another one of the same user can neither read its memory or environment nor
    attach to it, and a core_pattern that pipes (which no limit stops) gets nothing. Not for engines: GPUs of one model
    share memory by attaching. Children do not inherit it.
    """
    with contextlib.suppress(OSError, AttributeError):  # not on Linux
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def private_folder(path: Path) -> Path:
    """Made, or closed to others if it was open to them. One that is somebody else's, such as a mounted volume, stays as
    it is: its owner answers for it.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    mode = path.stat().st_mode
    if mode & _OWNER_ONLY:
        with contextlib.suppress(PermissionError):
            path.chmod(mode & ~_OWNER_ONLY & 0o7777)
    return path


def private_token(path: Path) -> Path:
    """A new random token in a file for its owner alone."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    return path
