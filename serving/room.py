"""Room that is kept free on the disk with the embedded database: the audit log must go on when tenants may not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

from serving.batches.contents import NoRoom


class Room(Protocol):
    def check(self) -> None:
        """Raises NoRoom when no more of tenants' content may be written."""


class Unlimited:
    """The database is elsewhere, and sees to its disk itself."""

    def check(self) -> None: ...


class DiskRoom:
    """reserve: bytes that stay free on the folder's disk."""

    def __init__(self, folder: Path, reserve: int) -> None:
        self._folder = folder
        self._reserve = reserve

    def check(self) -> None:
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError:  # the database will say so
            return
        if free < self._reserve:
            raise NoRoom
