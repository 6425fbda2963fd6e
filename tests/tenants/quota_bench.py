"""Quotas on a bench: either implementation, with its clock, its history and its settlements in the test's hand."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from serving.tenants.limits import Limits, Subject
from serving.tenants.memory_quotas import MemoryQuotas
from serving.tenants.quotas import Claim, Lease, Quotas, Settlement, Usage
from serving.tenants.redis import RedisQuotas
from serving.tenants.stores import StoreUnavailable
from tests.tenants.redis_server import RedisServer

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
KEY, TENANT, DEPLOYMENT = Subject("key", "k1"), Subject("tenant", "ward"), Subject("deployment", "gpt-4o")


class FixedHistory:
    """Says the same of every subject. away: it cannot say. answers: cleared, it waits."""

    def __init__(self, spent: int = 0) -> None:
        self.tokens = spent
        self.away = False
        self.asked: list[tuple[Subject, datetime]] = []
        self.answers = asyncio.Event()
        self.answers.set()

    async def spent(self, subject: Subject, since: datetime) -> int:
        self.asked.append((subject, since))
        spent = self.tokens
        await self.answers.wait()
        if self.away:
            raise StoreUnavailable
        return spent


class Bench:
    """What a test of quotas holds. now: the time, as the quotas see it."""

    def __init__(self) -> None:
        self.now = NOON
        self.history = FixedHistory()
        self.settled: Counter[Settlement] = Counter()
        self.quotas: Quotas = MemoryQuotas(self.history, clock=lambda: self.now, on_settled=self.on_settled)

    def on_settled(self, settlement: Settlement) -> None:
        self.settled[settlement] += 1

    def in_redis(self, url: str) -> Bench:
        self.quotas = RedisQuotas(
            url,
            None,
            history=self.history,
            timeout=5.0,
            when_away="refuse",
            clock=lambda: self.now,
            on_settled=self.on_settled,
        )
        return self

    async def reserve(
        self, tokens: int = 1, limits: dict[Subject, Limits] | None = None, **limits_of_key: int | None
    ) -> Lease:
        return await self.quotas.reserve(Claim("r", limits or {KEY: Limits(**limits_of_key)}, tokens))

    async def settle(self, lease: Lease, tokens: int = 0) -> None:
        """Settle and wait until it counts."""
        before = self.settled.total()
        lease.settle(Usage(completion=tokens))
        await until(lambda: self.settled.total() > before)


async def until(reached: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not come to pass"
        await asyncio.sleep(0.0002)


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[Bench]:
    await bench.quotas.start()
    try:
        yield bench
    finally:
        await bench.quotas.close()


def empty(server: RedisServer) -> str:
    """The url of a server that has forgotten everything."""
    with server.client() as client:
        client.flushall()
    return server.socket_url
