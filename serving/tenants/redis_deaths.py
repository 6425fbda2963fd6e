"""Deaths of replicas by the request that they had, counted in Redis for all gateways (engines/deaths.py).

A counter for each digest, which expires, and the digests in the order of their last death, at most so many.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from serving.tenants.redis import connect

PREFIX = "{clinserve}:deaths:"
RECENT = f"{PREFIX}recent"
MOST = 1000


class RedisDeathCounts:
    """Belongs to one event loop; opens nothing before the first call. seconds: for how long a death counts. one_death:
    seconds, within which gateways tell of the same death. timeout: seconds, after which Redis is away, which is a
    TimeoutError.
    """

    def __init__(
        self, url: str, password: str | None, *, seconds: float, one_death: float = 5.0, timeout: float = 0.25
    ) -> None:
        self._redis: Redis = connect(url, password, connections=2)
        self._seconds = seconds
        self._one_death = round(one_death * 1000)
        self._timeout = timeout

    async def add(self, deaths: Sequence[tuple[str, str]]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for digest, replica in deaths:
            name = f"{PREFIX}told:{digest}:{hashlib.blake2b(replica.encode(), digest_size=8).hexdigest()}"
            pipeline.set(name, 1, nx=True, px=self._one_death)
        new = await self._run(pipeline)
        pipeline = self._redis.pipeline(transaction=False)
        for digest in [digest for (digest, _), is_new in zip(deaths, new, strict=True) if is_new]:
            pipeline.incr(PREFIX + digest)
            pipeline.pexpire(PREFIX + digest, round(self._seconds * 1000))
            pipeline.zadd(RECENT, {digest: time.time()})
        pipeline.zremrangebyrank(RECENT, 0, -MOST - 1)
        pipeline.pexpire(RECENT, round(self._seconds * 1000))
        await self._run(pipeline)

    async def recent(self) -> Mapping[str, tuple[int, float]]:
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.zrange(RECENT, 0, -1)
        digests = [digest.decode() for digest in (await self._run(pipeline))[0]]
        if not digests:
            return {}
        pipeline = self._redis.pipeline(transaction=False)
        for digest in digests:
            pipeline.get(PREFIX + digest)
            pipeline.pttl(PREFIX + digest)
        said = await self._run(pipeline)
        counted = zip(digests, said[::2], said[1::2], strict=True)
        return {digest: (int(deaths), left / 1000) for digest, deaths, left in counted if deaths and left > 0}

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)

    async def _run(self, pipeline: Pipeline) -> list[Any]:
        try:
            async with asyncio.timeout(self._timeout):
                said: list[Any] = await pipeline.execute()
                return said
        except RedisError as error:
            raise TimeoutError from error
