"""Keys that `clinserve serve` has left on this machine, for commands that are given none."""

from __future__ import annotations

import os
from pathlib import Path


def kept_key(*files: str) -> str | None:
    """The key in the first of these files that can be read, in the state directory."""
    state = Path(os.environ.get("CLINSERVE_SERVER__STATE_DIR", ".clinserve"))
    for name in files:
        try:
            return (state / name).read_text().strip()
        except OSError:
            continue
    return None
