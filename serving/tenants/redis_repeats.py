"""Repeats known to all gateways, in Redis.

What a gateway holds it renews; a gateway that is gone renews nothing, and its holds end by Redis's own clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Literal

from redis.asyncio import Redis
from redis.exceptions import RedisError

from serving.tenants.delivery import Delivery
from serving.tenants.redis import connect
from serving.tenants.repeats import Hold, KeyReused, RepeatsUnavailable, StillRunning
from serving.tenants.turnstile import Turnstile

PREFIX = "{clinserve}:repeats:"
CONNECTIONS = 16
RELEASES = 10_000
CLOSE_SECONDS = 2.0
WAIT = 2.0
_SCRIPT = (files("serving.tenants") / "redis_repeats.lua").read_text()
_FAILURES = (RedisError, OSError, TimeoutError)
_log = logging.getLogger(__name__)


class RedisRepeats:
    """Belongs to one event loop; opens nothing before the first call.

    seconds     How long answers are kept.
    hold        How long a hold outlives its gateway.
    timeout     Seconds after which Redis is away. One request every `retry` seconds then tries it.
    wait        What StillRunning says.
    on_away     Called for each request that was refused or whose answer was not kept, because Redis is away.
    """

    def __init__(
        self,
        url: str,
        password: str | None,
        *,
        seconds: float,
        hold: float = 60.0,
        timeout: float = 0.25,
        retry: float = 1.0,
        wait: float = WAIT,
        on_away: Callable[[], None] = lambda: None,
    ) -> None:
        self._redis: Redis = connect(url, password, connections=CONNECTIONS + 2)  # for renewals and releases
        self._script = self._redis.register_script(_SCRIPT)
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._turnstile = Turnstile(retry)
        self._releases = Delivery(self._release, size=RELEASES, on_lost=lambda hold: None)  # its time ends it
        self._held: set[Hold] = set()
        self._renewing: asyncio.Task[None] | None = None
        self._life = round(seconds * 1000)
        self._hold = hold
        self._timeout = timeout
        self._wait = wait
        self._on_away = on_away

    async def begin(self, hold: Hold) -> bytes | None:
        if not self._turnstile.enter():
            self._on_away()
            raise RepeatsUnavailable(retry_after=self._wait)
        try:
            said, *answer = await self._call("begin", hold, hold.body, round(self._hold * 1000))
        except asyncio.CancelledError:
            self.release(hold)
            raise
        except _FAILURES as failure:
            self.release(hold)  # it may be held all the same
            self._failed(failure)
            raise RepeatsUnavailable(retry_after=self._wait) from failure
        self._turnstile.answered()
        if said == b"held":
            self._held.add(hold)
            return None
        if said == b"kept":
            kept: bytes = answer[0]
            return kept
        if said == b"reused":
            raise KeyReused
        raise StillRunning(retry_after=self._wait)

    async def keep(self, hold: Hold, answer: bytes) -> None:
        self._held.discard(hold)
        try:
            await self._call("keep", hold, answer, self._life)
        except _FAILURES as failure:
            self._failed(failure)

    def release(self, hold: Hold) -> None:
        self._held.discard(hold)
        self._releases.put(hold)

    async def start(self) -> None:
        self._releases.start()
        self._renewing = asyncio.create_task(self._keep_renewing())

    async def close(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        await self._releases.close(CLOSE_SECONDS)
        await self._redis.aclose(close_connection_pool=True)

    def _failed(self, failure: BaseException) -> None:
        self._on_away()
        if self._turnstile.failed():
            _log.warning("Redis is away and requests with an Idempotency-Key are refused: %r", failure)

    async def _call(self, command: str, hold: Hold, *more: str | int | bytes) -> list[Any]:
        async with asyncio.timeout(self._timeout), self._places:
            said: list[Any] = await self._script([PREFIX + hold.name], [command, hold.attempt, *more])
        return said

    async def _release(self, batch: Sequence[Hold]) -> list[Hold]:
        return [] if await self._tell("release", batch) else list(batch)

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(self._hold / 3)
            if self._held:
                await self._tell("renew", list(self._held), round(self._hold * 1000))

    async def _tell(self, command: Literal["release", "renew"], holds: Sequence[Hold], *more: int) -> bool:
        """Did it arrive?"""
        pipeline = self._redis.pipeline(transaction=False)
        for hold in holds:
            await self._script([PREFIX + hold.name], [command, hold.attempt, *more], client=pipeline)
        try:
            async with asyncio.timeout(self._timeout):
                await pipeline.execute()
        except _FAILURES:
            return False
        return True
