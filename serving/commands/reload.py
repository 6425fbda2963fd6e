"""`clinserve reload`: have the server on this machine read its configuration again, and wait until it is in force."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from pathlib import Path

from serving.commands.rollout import CannotReload, Notes

_LOOK_SECONDS = 0.2


def reload(state_dir: Path, restart: Collection[str], *, timeout: float) -> str:
    """What was replaced. Raises CannotReload."""
    notes = Notes(state_dir)
    pid = notes.server()
    if pid is None:
        raise CannotReload(f"no server runs on {state_dir}; 'clinserve serve' starts one, in runtime 'ray'")
    note = notes.ask(restart)
    try:
        os.kill(pid, signal.SIGHUP)
    except (ProcessLookupError, PermissionError) as error:
        raise CannotReload(f"the server, process {pid}, cannot be told: {error.strerror}") from None
    end = time.monotonic() + timeout
    while (outcome := notes.answered(note)) is None:
        if time.monotonic() > end:
            raise CannotReload(f"not done after {timeout:.0f} s; the server goes on with it, and says so")
        time.sleep(_LOOK_SECONDS)
    if not outcome["ok"]:
        raise CannotReload(outcome["message"])
    return str(outcome["message"])
