"""What `clinserve doctor` says about the disk with the server's state: its room, and files that are damaged."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from serving.commands.finding import Finding
from serving.settings import Settings
from serving.tenants.spool import bad_files

_LITTLE = 2**30


def about_disks(settings: Settings) -> Iterator[Finding]:
    state = settings.server.state_dir
    if not state.is_dir():
        return
    try:
        free = shutil.disk_usage(state).free
    except OSError as error:
        yield Finding("disk", "missing", f"{state}: {error.strerror}", "mend the disk, or set server.state_dir")
        return
    yield Finding(
        "disk", "ok" if free > _LITTLE else "warning", f"{free / 2**30:.1f} GiB free for {state}",
        "make room: without it nothing can be audited, so nothing is served",
    )  # fmt: skip
    damaged = [file for book in ("audit", "usage") for file in bad_files(state / "spool" / book)]
    yield Finding(
        "spool",
        "warning" if damaged else "ok",
        f"{len(damaged)} damaged files in {state / 'spool'}" if damaged else "no damaged files",
        "docs/runbook.md, 'A file is damaged'",
    )
