"""A deployment's adapters as they are listed now: gateways and replicas read their file again when it changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from serving.settings import Adapter, Deployment, SettingsError, adapters_of

_EVERY_SECONDS = 2.0
_log = logging.getLogger(__name__)

Listed = Sequence[Adapter]


class Following:
    """Runs beside the requests, once it has begun. on_change: told then, and of each change; must not raise.

    A file that is gone or not valid changes nothing: what was listed before stays.
    """

    def __init__(
        self, deployment: Deployment, on_change: Callable[[Listed], None], *, every: float = _EVERY_SECONDS
    ) -> None:
        self._deployment = deployment
        self._on_change = on_change
        self._every = every
        self._seen: object = None
        self._listed: Listed = ()
        self._looking: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Raises SettingsError."""
        self._seen = _state_of(self._deployment.adapters_file)
        self._tell(adapters_of(self._deployment))

    async def start(self) -> None:
        if self._deployment.adapters_file is not None:
            self._looking = asyncio.create_task(self._look_again())

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def look(self) -> None:
        """Now, rather than in two seconds."""
        listed = await asyncio.to_thread(self._read_anew)
        if listed is not None and listed != self._listed:
            self._tell(listed)

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self.look()

    def _read_anew(self) -> Listed | None:
        """None: nothing new, or nothing that can be used."""
        seen = _state_of(self._deployment.adapters_file)
        if seen == self._seen:
            return None
        self._seen = seen
        try:
            return adapters_of(self._deployment)
        except SettingsError as error:
            _log.warning("adapters of %s stay as they were: %s", self._deployment.name, error)
            return None

    def _tell(self, listed: Listed) -> None:
        self._listed = listed
        self._on_change(listed)


def _state_of(file: Path | None) -> object:
    """What differs when the file has changed, also behind the link that Kubernetes swaps."""
    try:
        stat = file.stat() if file is not None else None
    except OSError:
        return None
    return stat and (stat.st_mtime_ns, stat.st_size, stat.st_ino)
