"""A running process hears of new versions of its secrets, so that none has to be started again to rotate one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from serving.secret_versions import VersionedSecret
from serving.secrets import SecretsError

_log = logging.getLogger(__name__)


class SecretFollower:
    """For one event loop. secrets: by name, of this process. read: what they are now; blocks, raises SecretsError.
    every: seconds; 0 for never. longest: seconds after which a look counts as failed.

    What cannot be read, or would take away the version that writes, changes nothing and is told once a look: a file
    that is half there, or a vault that is away, must stop nobody.
    """

    def __init__(
        self,
        secrets: Mapping[str, VersionedSecret],
        read: Callable[[], Mapping[str, VersionedSecret]],
        *,
        every: float,
        longest: float = 60.0,
    ) -> None:
        self._secrets = secrets
        self._read = read
        self._every = every
        self._longest = longest
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._every > 0:
            self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                async with asyncio.timeout(self._longest):
                    found = await asyncio.to_thread(self._read)
            except (SecretsError, OSError, TimeoutError) as error:
                _log.warning("secrets cannot be read again, the known ones go on: %s", error or "no answer in time")
                continue
            for name, secret in self._secrets.items():
                self._take(name, secret, found[name])

    def _take(self, name: str, known: VersionedSecret, found: VersionedSecret) -> None:
        if found == known:
            return
        if found.version(known.writing.number) is None:
            _log.warning("secret %s: version %d writes and is not there any more; kept", name, known.writing.number)
            return
        changed = [v.number for v in known.versions if (now := found.version(v.number)) and now.text != v.text]
        if changed and name != "signing":  # of a signing key, the private part may go
            _log.warning("secret %s: version %d is another than before; kept", name, changed[0])
            return
        known.take(found)
        _log.warning("secret %s: %r from now on", name, known)
