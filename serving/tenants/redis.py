"""Quotas counted in Redis, for all gateways together. Only here and in redis_repeats.py: redis.

redis_quotas.lua counts, in one atomic step for each reserve and each settlement. Here is what keeps that exact when
answers are late, connections break and either side dies:

- A lease is known to Redis by its id, so a settlement counts once, however often it is sent.
- A reserve whose outcome is unknown is cancelled, whether it has happened, will still happen or never does.
- What a gateway holds is kept under its id, and stops counting when it has been silent for `dead_after` seconds.

A Redis that loses its data takes the leases with it: they settle as "unknown", and days and months begin again with
what history says.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from importlib.resources import files
from itertools import count
from typing import Any, Literal

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from serving.tenants.delivery import Delivery
from serving.tenants.limits import Subject
from serving.tenants.quotas import Claim, History, Lease, OnSettled, QuotasUnavailable, Unlimited
from serving.tenants.seeds import Seeds
from serving.tenants.turnstile import Turnstile
from serving.tenants.verdicts import Held, refusal, tightest
from serving.tenants.windows import Ask, Kind, Reading, asks_of

PREFIX = "{clinserve}:quotas:"
"""Of all keys. The braces are a hash tag: it keeps the keys together in a cluster, so that a script may touch them."""

CONNECTIONS = 32
SETTLEMENTS = 100_000
CLOSE_SECONDS = 5.0
_ROUNDS = 4  # of one reserve: the gateway is forgotten, seeds are wanted, it is forgotten again, the verdict
_SCRIPT = (files("serving.tenants") / "redis_quotas.lua").read_text()
_FAILURES = (RedisError, OSError, TimeoutError)
_log = logging.getLogger(__name__)

Seed = tuple[int, int]
"""Tokens, and the beginning of the period in which they were spent."""


class RedisAway(Exception):
    """Redis did not answer in time, or with an error. What was asked is done, or not, or will still be."""


@dataclass(slots=True)
class Ending:
    """How a lease ends, for Redis. cancels: nobody knows whether it was held. tried: this may have arrived before."""

    gateway: str
    lease: str
    asks: Sequence[Ask]
    spent: int = 0
    cancels: bool = False
    tried: bool = False


class RedisQuotas:
    """Belongs to one event loop; opens nothing before the first call.

    url         `redis://` or, for TLS, `rediss://`; without a password. A cluster has to be behind one address (Azure
                Managed Redis: the cluster policies "Enterprise" and "non-clustered").
    timeout     Seconds after which Redis is away. One request every `retry` seconds then tries it.
    when_away   `refuse`: QuotasUnavailable (503). `admit`: leases on nothing. Each such request calls `on_away`.
    clock       Seconds since the epoch. Default: Redis's own, which all gateways share.
    beat        Seconds between this gateway's signs of life; they and dead_after go by Redis's own clock.
    """

    def __init__(
        self,
        url: str,
        password: str | None,
        *,
        history: History,
        gateway: str | None = None,
        timeout: float = 0.25,
        retry: float = 1.0,
        when_away: Literal["refuse", "admit"],
        on_settled: OnSettled = lambda settlement: None,
        on_away: Callable[[], None] = lambda: None,
        clock: Callable[[], float] | None = None,
        beat: float = 5.0,
        dead_after: float = 20.0,
    ) -> None:
        self._redis = connect(url, password, connections=CONNECTIONS + 1)  # one for deliveries
        self._script = self._redis.register_script(_SCRIPT)
        self._places = asyncio.Semaphore(CONNECTIONS)
        self._turnstile = Turnstile(retry)
        self._seeds = Seeds(history)
        self._endings = Delivery(self._deliver, size=SETTLEMENTS, on_lost=self._lost)
        self._numbers = count()
        self._gateway = gateway or _new_gateway()
        self._is_new = True
        self._timeout = timeout
        self._retry = retry
        self._when_away = when_away
        self._on_settled = on_settled
        self._on_away = on_away
        self._clock = clock
        self._beat = beat
        self._dead_after = dead_after
        self._beating: asyncio.Task[None] | None = None

    async def reserve(self, claim: Claim) -> Lease:
        asks = asks_of(claim)
        if not asks:
            return Unlimited()
        if not self._turnstile.enter():
            return self._without_redis(None)
        try:
            return await self._reserve(asks, str(next(self._numbers)))
        except RedisAway as away:
            return self._without_redis(away)

    async def start(self) -> None:
        """Redis may be away: nothing here waits for it."""
        self._endings.start()
        self._beating = asyncio.create_task(self._keep_beating())

    async def close(self) -> None:
        gateway = self._gateway
        await self._endings.close(CLOSE_SECONDS)
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.gather(self._beating, return_exceptions=True)
        await self._seeds.close()
        with suppress(RedisAway):  # our silence will say the same
            await self._call("leave", gateway)
        await self._redis.aclose(close_connection_pool=True)

    async def _reserve(self, asks: Sequence[Ask], lease: str) -> Lease:
        seeds: Mapping[int, Seed] = {}
        ask_for_seeds = self._seeds.due()
        for _ in range(_ROUNDS):
            gateway = self._gateway
            status, *answer = await self._ask(gateway, lease, asks, seeds, ask_for_seeds)
            if status == b"held":
                return self._held(gateway, lease, asks, answer)
            if status == b"refused":
                raise refusal(asks, _readings(answer), float(answer[0]))
            if status == b"seeds":
                seeds, ask_for_seeds = await self._fetch(asks, answer), False
            elif status == b"forgotten":
                self._become_another(gateway)
        raise RedisAway("this gateway is forgotten again and again")

    async def _ask(
        self, gateway: str, lease: str, asks: Sequence[Ask], seeds: Mapping[int, Seed], ask_for_seeds: bool
    ) -> list[Any]:
        """What Redis says to a claim. However this ends, nothing stays held that nobody knows of."""
        more: list[str | int] = [int(self._is_new), int(ask_for_seeds)]
        for index, ask in enumerate(asks):
            more += [ask.kind, ask.limit, ask.amount, *seeds.get(index, ("", ""))]
        try:
            answer: list[Any] = await self._call("reserve", gateway, lease, asks, more)
        except asyncio.CancelledError:
            self._endings.put(Ending(gateway, lease, asks, cancels=True))
            raise
        except RedisAway as away:
            self._endings.put(Ending(gateway, lease, asks, cancels=True))
            if self._turnstile.failed():
                _log.warning("Redis is away and quotas are not counted: %r", away.__cause__)
            raise
        if self._turnstile.answered():
            _log.warning("Redis is back and quotas are counted")
        return answer

    async def _fetch(self, asks: Sequence[Ask], wanted: Sequence[int]) -> Mapping[int, Seed]:
        """By the ask's number. wanted: such numbers, each with the beginning of the period."""
        periods = list(zip(wanted[::2], wanted[1::2], strict=True))
        spent = await self._seeds.spent([(asks[index].subject, start) for index, start in periods])
        pairs = zip(periods, spent, strict=True)
        return {index: (tokens, start) for (index, start), tokens in pairs if tokens is not None}

    def _held(self, gateway: str, lease: str, asks: Sequence[Ask], answer: Sequence[Any]) -> Lease:
        now, readings = float(answer[0]), _readings(answer)

        def left(kind: Kind) -> list[tuple[int, int, int]]:
            pairs = zip(asks, readings, strict=True)
            return [(ask.limit, found.used + ask.amount, found.empty_at) for ask, found in pairs if ask.kind == kind]

        return Held(
            tightest(left("requests_per_minute"), now),
            tightest(left("tokens_per_minute"), now),
            lambda spent: self._endings.put(Ending(gateway, lease, asks, spent)),
        )

    def _without_redis(self, away: RedisAway | None) -> Lease:
        self._on_away()
        if self._when_away == "admit":
            return Unlimited()
        raise QuotasUnavailable(retry_after=2) from away

    async def _deliver(self, batch: Sequence[Ending]) -> list[Ending]:
        """Settle them all; answers those that may not have arrived."""
        pipeline = self._redis.pipeline(transaction=False)
        for ending in batch:
            more: list[str | int] = [int(ending.cancels), ending.spent]
            for ask in ending.asks:
                more += [ask.kind, ask.amount]
            keys, arguments = self._words("settle", ending.gateway, ending.lease, ending.asks, more)
            await self._script(keys, arguments, client=pipeline)
        try:
            async with asyncio.timeout(self._timeout):
                answers = await pipeline.execute(raise_on_error=False)
        except _FAILURES as failure:
            answers = [failure] * len(batch)
        return [ending for ending, answer in zip(batch, answers, strict=True) if not self._arrived(ending, answer)]

    def _arrived(self, ending: Ending, answer: object) -> bool:
        if isinstance(answer, Exception):
            _log.debug("a settlement is sent again: %r", answer)
            ending.tried = True
            return False
        if not ending.cancels:
            settled = answer == b"settled" or (answer == b"again" and ending.tried)
            self._on_settled("settled" if settled else "unknown")
        return True

    def _lost(self, ending: Ending) -> None:
        """What it held stays held as long as its gateway is alive; so this one goes on as another."""
        self._become_another(ending.gateway)
        if not ending.cancels:
            self._on_settled("lost")

    async def _keep_beating(self) -> None:
        while True:
            pause, gateway = self._beat, self._gateway
            try:
                if await self._call("beat", gateway, more=[int(self._is_new)]) == b"forgotten":
                    self._become_another(gateway)
                    pause = 0.0
            except RedisAway:
                pause = min(self._beat, self._retry)
            except Exception:  # a mistake of ours must not make this gateway look dead
                _log.exception("no sign of life could be sent")
            await asyncio.sleep(pause)

    def _become_another(self, gateway: str) -> None:
        if gateway == self._gateway:
            self._gateway, self._is_new = _new_gateway(), True

    async def _call(
        self, command: str, gateway: str, lease: str = "", asks: Sequence[Ask] = (), more: Sequence[str | int] = ()
    ) -> Any:
        keys, arguments = self._words(command, gateway, lease, asks, more)
        try:
            async with asyncio.timeout(self._timeout), self._places:
                answer = await self._script(keys, arguments)
        except _FAILURES as failure:
            raise RedisAway from failure
        if gateway == self._gateway:
            self._is_new = False
        return answer

    def _words(
        self, command: str, gateway: str, lease: str, asks: Sequence[Ask], more: Sequence[str | int]
    ) -> tuple[list[str], list[str | int | float]]:
        """The keys and the arguments of a call, in the order in which the script names them."""
        keys = [f"{PREFIX}gateways", f"{PREFIX}leases:{gateway}", f"{PREFIX}cancelled:{gateway}:{lease}"]
        keys += [f"{PREFIX}{ask.kind}:{_digest(ask.subject)}" for ask in asks]
        now = "" if self._clock is None else self._clock()
        return keys, [command, now, gateway, lease, self._dead_after, *more]


def connect(url: str, password: str | None, *, connections: int) -> Redis:
    """Without retries, as a reserve that arrived twice would be held twice. Waits are bounded where calls are made."""
    pool = ConnectionPool.from_url(
        url,
        password=password,
        protocol=2,
        max_connections=connections,
        socket_timeout=None,
        socket_connect_timeout=None,
        retry=Retry(NoBackoff(), 0),
    )
    return Redis.from_pool(pool)


def _new_gateway() -> str:
    return secrets.token_hex(8)


def _readings(answer: Sequence[Any]) -> list[Reading]:
    """Four numbers each, behind the time."""
    return [Reading(*answer[at : at + 4]) for at in range(1, len(answer), 4)]


@lru_cache(maxsize=10_000)
def _digest(subject: Subject) -> str:
    """Subjects have any text for an id; keys of Redis do not."""
    text = f"{subject.scope}:{subject.id}"
    return blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
