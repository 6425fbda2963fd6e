"""Keys that `clinserve serve` has left on this machine, for commands that are given none."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

HERE = ("127.0.0.1", "localhost", "::1")


def kept_key(url: str, *files: str) -> str | None:
    """The key in the first of these files that can be read, in the state directory. For a server on this machine only:
    whoever stands behind another address is not given our keys.
    """
    try:
        if urlsplit(url).hostname not in HERE:
            return None
    except ValueError:  # no address at all
        return None
    state = Path(os.environ.get("CLINSERVE_SERVER__STATE_DIR", ".clinserve"))
    for name in files:
        try:
            return (state / name).read_text(encoding="ascii").strip() or None
        except (OSError, UnicodeDecodeError):
            continue
    return None
