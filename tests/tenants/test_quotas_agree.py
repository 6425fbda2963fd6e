"""Random histories of requests: memory and Redis say the same, and both what a list of all requests says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.tenants.limits import Limits, Subject
from serving.tenants.quotas import Claim, Lease, QuotaExceeded, RequestTooLarge
from serving.tenants.windows import Ask, asks_of, day_of, month_of
from tests.tenants.quota_bench import DEPLOYMENT, KEY, NOON, TENANT, Bench, empty, running
from tests.tenants.redis_server import RedisServer

LIMITS: list[dict[Subject, Limits]] = [
    {KEY: Limits(requests_per_minute=4, tokens_per_minute=60)},
    {KEY: Limits(concurrent_requests=2, tokens_per_day=150), TENANT: Limits(tokens_per_minute=100)},
    {KEY: Limits(5, 80, 200, 400, 3), TENANT: Limits(8, 100, 250, 500, 4), DEPLOYMENT: Limits(9, 120, None, 600, 5)},
    {TENANT: Limits(tokens_per_month=450), DEPLOYMENT: Limits(requests_per_minute=6, concurrent_requests=4)},
]
WAITS = [0.0, 0.25, 1.0, 7.5, 29.75, 59.0, 59.75, 60.0, 60.75, 61.0, 200.0, 43_200.0, 86_400.0, 20 * 86_400.0]


@dataclass
class Request:
    """One that was admitted."""

    at: float
    asks: list[Ask]
    tokens: int
    spent: int | None = None
    ended: float = 0.0


@dataclass
class Everything:
    """The rules of quotas over a list of all requests, without any counter."""

    requests: list[Request] = field(default_factory=list)

    def fits(self, asks: list[Ask], now: float) -> bool:
        return all(self.used(ask, now) + ask.amount <= ask.limit for ask in asks)

    def used(self, ask: Ask, now: float) -> int:
        mine = [r for r in self.requests if any(a.subject == ask.subject and a.kind == ask.kind for a in r.asks)]
        minute = [r for r in mine if int(now) - int(r.at) <= 60]
        running = [r for r in mine if r.spent is None]
        if ask.kind == "requests_per_minute":
            return len(minute)
        if ask.kind == "tokens_per_minute":
            return sum(r.tokens if r.spent is None else r.spent for r in minute)
        if ask.kind == "concurrent_requests":
            return len(running)
        start, _ = (day_of if ask.kind == "tokens_per_day" else month_of)(now)
        return sum(r.tokens for r in running) + sum(
            r.spent or 0 for r in mine if r.spent is not None and r.ended >= start
        )

    def waits_for_an_end(self, asks: list[Ask]) -> bool:
        """Is there a limit, other than of a minute, at which requests in flight hold room that they may give back?"""
        running = [r for r in self.requests if r.spent is None]

        def held(ask: Ask) -> int:
            mine = (a.amount for r in running for a in r.asks if (a.subject, a.kind) == (ask.subject, ask.kind))
            return sum(mine)

        lasting = [ask for ask in asks if not ask.kind.endswith("minute")]
        return any(held(ask) > 0 for ask in lasting)


Step = tuple[str, int, int]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, len(LIMITS) - 1), st.integers(0, 130)),
        st.tuples(st.just("settle"), st.integers(0, 9), st.integers(0, 90)),
        st.tuples(st.just("wait"), st.sampled_from(range(len(WAITS))), st.just(0)),
    ),
    max_size=40,
)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@given(steps)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_memory_redis_and_a_list_of_all_requests_agree(
    redis_server: RedisServer, loop: asyncio.Runner, steps: list[Step]
) -> None:
    loop.run(agree(empty(redis_server), steps))


async def agree(url: str, steps: list[Step]) -> None:
    benches, everything, held = [Bench(), Bench().in_redis(url)], Everything(), []
    now = NOON
    async with running(benches[0]), running(benches[1]):
        for verb, which, amount in [*steps, *[("settle", 0, 3)] * len(steps), *probes()]:
            if verb == "wait":
                now += WAITS[which]
                for bench in benches:
                    bench.now = now
            elif verb == "settle" and held:
                request, leases = held.pop(which % len(held))
                request.spent, request.ended = amount, now
                for bench, lease in zip(benches, leases, strict=True):
                    await bench.settle(lease, amount)
            elif verb == "reserve":
                claim = Claim("r", LIMITS[which], amount)
                asks, answers = asks_of(claim), [await answer(bench, claim) for bench in benches]
                assert described(answers[0]) == described(answers[1])
                assert isinstance(answers[0], QuotaExceeded) != everything.fits(asks, now)
                if isinstance(answers[0], QuotaExceeded):
                    check_wait(answers[0], everything, asks, now)
                else:
                    everything.requests.append(Request(now, asks, amount))
                    held.append((everything.requests[-1], answers))


def probes() -> list[Step]:
    """Everything has ended: after a month all of every limit is there again."""
    return [("wait", 13, 0), ("wait", 13, 0), *(("reserve", limits, 60) for limits in range(len(LIMITS)))]


async def answer(bench: Bench, claim: Claim) -> Lease | QuotaExceeded:
    try:
        return await bench.quotas.reserve(claim)
    except QuotaExceeded as error:
        return error


def described(answer: Lease | QuotaExceeded) -> tuple[object, ...]:
    more = (type(answer), answer.message, answer.retry_after) if isinstance(answer, QuotaExceeded) else ()
    return (answer.requests, answer.tokens, *more)


def check_wait(error: QuotaExceeded, everything: Everything, asks: list[Ask], now: float) -> None:
    """The same claim fits after exactly the wait, and not a second earlier; unless only an end of a request helps."""
    if isinstance(error, RequestTooLarge):
        assert error.retry_after is None and any(ask.amount > ask.limit for ask in asks)
    elif not everything.waits_for_an_end(asks):
        assert error.retry_after is not None
        assert everything.fits(asks, now + error.retry_after)
        assert not everything.fits(asks, now + error.retry_after - 0.125)
