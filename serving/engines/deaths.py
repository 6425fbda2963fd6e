"""Requests that replicas die of. One that was in flight at two when each died is given to no third, here or elsewhere.

A replica dies of many things, and what was in flight in it is nearly always innocent: it goes to another, as ever.
Twice within minutes is no chance. The same request is known by a digest of what the engine got, made with its tenant's
secret; of many alike that a replica had when it died, that is one death.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from serving.engines.engine import EngineRequest

FATAL = 2
"""Deaths after which no further replica is risked."""
KEPT_SECONDS = 300.0
_MOST = 10_000
_UNTOLD = 1000
_EVERY_SECONDS = 1.0
ONE_DEATH_SECONDS = 5.0
"""Connections to a replica that break within so long broke of the same death."""
_AWAY = (OSError, TimeoutError)


class Deaths(Protocol):
    """What is known of them. Plain calls, on the path of requests; how gateways share it goes on beside them."""

    @property
    def are_none(self) -> bool:
        """No digest need be made."""
        ...

    def of(self, digest: str) -> int:
        """Deaths in the last minutes, as far as is known here."""
        ...

    def happened(self, digest: str, replica: str) -> int:
        """This replica has died with it; then the same."""
        ...

    async def start(self) -> None: ...
    async def close(self) -> None: ...


class MemoryDeaths:
    """Known to this process. seconds: for how long. most: digests; beyond, those that died longest ago go."""

    def __init__(
        self, *, seconds: float = KEPT_SECONDS, most: int = _MOST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._most = most
        self._clock = clock
        self._known: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """Deaths, and until when they count; the last to die at the end."""
        self._told: OrderedDict[tuple[str, str], float] = OrderedDict()
        """Of which digest and replica the last death is, and when it was."""

    @property
    def are_none(self) -> bool:
        return not self._known

    def of(self, digest: str) -> int:
        deaths, until = self._known.get(digest, (0, 0.0))
        return deaths if until > self._clock() else 0

    def happened(self, digest: str, replica: str) -> int:
        if self._is_another(digest, replica):
            self.heard(digest, self.of(digest) + 1, self._seconds)
        return self.of(digest)

    def _is_another(self, digest: str, replica: str) -> bool:
        """Not the death of which this digest has been told already."""
        now, death = self._clock(), (digest, replica)
        is_another = now - self._told.get(death, -ONE_DEATH_SECONDS) >= ONE_DEATH_SECONDS
        if is_another:
            self._told[death] = now
            self._told.move_to_end(death)
            while len(self._told) > self._most:
                self._told.popitem(last=False)
        return is_another

    def heard(self, digest: str, deaths: int, seconds: float) -> None:
        """So many there have been, wherever; they count for so long."""
        now = self._clock()
        self._known[digest] = (deaths, now + seconds)
        self._known.move_to_end(digest)
        while len(self._known) > self._most or next(iter(self._known.values()))[1] <= now:
            self._known.popitem(last=False)

    async def start(self) -> None: ...
    async def close(self) -> None: ...


class DeathCounts(Protocol):
    """What all gateways have seen, somewhere else. Raises OSError or TimeoutError when it is away."""

    async def add(self, deaths: Sequence[tuple[str, str]]) -> None:
        """deaths: digests, each with the replica. One that another gateway has told too counts once."""
        ...

    async def recent(self) -> Mapping[str, tuple[int, float]]:
        """Deaths by digest, and for how many seconds they still count."""
        ...

    async def close(self) -> None: ...


class SharedDeaths(MemoryDeaths):
    """Known to all gateways within a second or two. While the counts are away, each knows its own."""

    def __init__(self, counts: DeathCounts, *, seconds: float = KEPT_SECONDS, every: float = _EVERY_SECONDS) -> None:
        super().__init__(seconds=seconds)
        self._counts = counts
        self._every = every
        self._untold: list[tuple[str, str]] = []
        self._sharing: asyncio.Task[None] | None = None

    def _is_another(self, digest: str, replica: str) -> bool:
        is_another = super()._is_another(digest, replica)
        if is_another:
            self._untold = [*self._untold[-_UNTOLD + 1 :], (digest, replica)]
        return is_another

    async def start(self) -> None:
        self._sharing = asyncio.create_task(self._share())

    async def close(self) -> None:
        if self._sharing is not None:
            self._sharing.cancel()
            await asyncio.gather(self._sharing, return_exceptions=True)
        await self._counts.close()

    async def _share(self) -> None:
        while True:
            telling, self._untold = self._untold, []
            try:
                if telling:
                    await self._counts.add(telling)
                    telling = []
                for digest, (deaths, seconds) in (await self._counts.recent()).items():
                    if deaths > self.of(digest):
                        self.heard(digest, deaths, seconds)
            except _AWAY:
                self._untold = [*telling, *self._untold][-_UNTOLD:]
            await asyncio.sleep(self._every)


def digest_of(request: EngineRequest, model: str) -> str:
    """The same for the same body at the same model from the same tenant: its cache_salt is made with a secret."""
    text = json.dumps([model, request.operation, request.body], sort_keys=True, separators=(",", ":"))
    key = request.cache_salt.encode()[:64]
    return hashlib.blake2b(text.encode(), key=key, digest_size=16).hexdigest()
