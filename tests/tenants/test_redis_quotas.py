"""Drills on a real Redis: it dies, hangs, forgets, comes back; answers and gateways are lost. Nothing is miscounted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from serving.tenants.limits import Limits, Subject
from serving.tenants.quotas import BudgetExhausted, Claim, Lease, QuotaExceeded, QuotasUnavailable, Unlimited, Usage
from serving.tenants.redis import RedisQuotas
from tests.tenants.quota_bench import KEY, TENANT, FixedHistory, empty, until
from tests.tenants.redis_server import RedisServer
from tests.tenants.unreliable_wire import UnreliableWire

ONE_AT_A_TIME = {KEY: Limits(concurrent_requests=1)}


class Gateway:
    """One gateway's quotas, with what they told it."""

    def __init__(self, url: str, password: str | None = None, **options: Any) -> None:
        self.told: Counter[str] = Counter()
        self.history = FixedHistory()
        options = {"when_away": "refuse", "timeout": 5.0, "retry": 0.1, "history": self.history} | options
        self.quotas = RedisQuotas(
            url,
            password,
            on_settled=lambda settlement: self.told.update([settlement]),
            on_away=lambda: self.told.update(["away"]),
            **options,
        )

    async def reserve(self, limits: dict[Subject, Limits], tokens: int = 1) -> Lease:
        return await self.quotas.reserve(Claim("r", limits, tokens))

    async def settle(self, lease: Lease, tokens: int = 0) -> None:
        before = self.told.total()
        lease.settle(Usage(completion=tokens))
        await until(lambda: self.told.total() > before)

    async def is_admitted(self, limits: dict[Subject, Limits], tokens: int = 1) -> bool:
        """Held, and not merely let through."""
        try:
            return not isinstance(await self.reserve(limits, tokens), Unlimited)
        except QuotaExceeded:
            return False


@asynccontextmanager
async def gateway(url: str, password: str | None = None, **options: Any) -> AsyncIterator[Gateway]:
    gateway = Gateway(url, password, **options)
    await gateway.quotas.start()
    try:
        yield gateway
    finally:
        await gateway.quotas.close()


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    return empty(redis_server)


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[RedisServer]:
    """One to take away. (redis_server: skips where there is none to start.)"""
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.resume()
        server.stop()


def keys(server: RedisServer) -> dict[str, int]:
    """Every key with the seconds it has left."""
    with server.client() as client:
        return {key: client.ttl(key) for key in client.scan_iter()}  # type: ignore[misc]


def held(server: RedisServer) -> int:
    """Leases that Redis knows."""
    with server.client() as client:
        return sum(client.hlen(key) for key in client.scan_iter("*leases*"))  # type: ignore[misc]


@pytest.mark.parametrize(
    "limits",
    [
        Limits(requests_per_minute=100),
        Limits(tokens_per_minute=1000),
        Limits(tokens_per_day=1000),
        Limits(None, None, None, 1000),
    ],
)
async def test_two_gateways_share_one_limit_exactly(url: str, limits: Limits) -> None:
    async with gateway(url) as first, gateway(url) as second:
        claims = [each.is_admitted({TENANT: limits}, 10) for _ in range(150) for each in (first, second)]
        assert sum(await asyncio.gather(*claims)) == 100


async def test_two_gateways_share_places_exactly_while_requests_come_and_go(url: str) -> None:
    limits, running, most, ended = {KEY: Limits(concurrent_requests=7)}, 0, 0, 0

    async def request(of: Gateway) -> None:
        nonlocal running, most, ended
        try:
            lease = await of.reserve(limits)
        except QuotaExceeded:
            return
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running, ended = running - 1, ended + 1
        lease.settle(Usage())

    async with gateway(url) as first, gateway(url) as second:
        await asyncio.gather(*(request(each) for _ in range(200) for each in (first, second)))
        await until(lambda: first.told + second.told == {"settled": ended})
        assert most == 7
        admitted = [await second.is_admitted(limits) for _ in range(8)]
        assert admitted == [True] * 7 + [False]


@pytest.mark.parametrize("when_away", ["admit", "refuse"])
async def test_killed_under_load_it_delays_nobody_for_long_and_counts_again_when_it_is_back(
    server: RedisServer, when_away: Literal["admit", "refuse"]
) -> None:
    answers: Counter[str] = Counter()
    slowest, ends = 0.0, False

    async def client(of: Gateway) -> None:
        nonlocal slowest
        while not ends:
            began = time.monotonic()
            try:
                lease = await of.reserve({KEY: Limits(concurrent_requests=100)})
                answers[type(lease).__name__] += 1
                lease.settle(Usage(completion=1))
            except QuotasUnavailable as error:
                answers["refused" if error.retry_after == 2 else "refused without a wait"] += 1
            slowest = max(slowest, time.monotonic() - began)
            await asyncio.sleep(0.002)

    async with gateway(server.url, when_away=when_away, timeout=0.1) as one:
        clients = [asyncio.create_task(client(one)) for _ in range(20)]
        await until(lambda: answers["Held"] > 200)
        server.kill()
        without = "Unlimited" if when_away == "admit" else "refused"
        await until(lambda: answers[without] > 200)
        counted = answers["Held"]
        server.start()
        await until(lambda: answers["Held"] > counted + 200)
        ends = True
        await asyncio.gather(*clients)
        await until(lambda: one.told["settled"] + one.told["unknown"] == answers["Held"])
        assert slowest < 0.5
        assert one.told["away"] == answers[without]
        assert one.told["lost"] == 0 and one.told["unknown"] <= 100
        assert held(server) == 0
        assert [await one.is_admitted(ONE_AT_A_TIME) for _ in range(2)] == [True, False]


async def test_a_redis_that_hangs_costs_one_request_the_timeout_and_the_others_nothing(server: RedisServer) -> None:
    async with gateway(server.url, when_away="admit", timeout=0.1, retry=30) as one:
        await one.settle(await one.reserve(ONE_AT_A_TIME))
        server.pause()
        began = time.monotonic()
        assert isinstance(await one.reserve(ONE_AT_A_TIME), Unlimited)
        assert 0.1 <= time.monotonic() - began < 0.3
        began = time.monotonic()
        for _ in range(500):
            assert isinstance(await one.reserve(ONE_AT_A_TIME), Unlimited)
        assert time.monotonic() - began < 0.1
        server.resume()


async def test_what_was_reserved_while_it_hung_is_not_held_when_it_goes_on(server: RedisServer) -> None:
    wide = {KEY: Limits(concurrent_requests=100, tokens_per_day=1000)}
    async with gateway(server.url, timeout=0.1) as one:
        for lease in await asyncio.gather(*(one.reserve(wide) for _ in range(10))):
            await one.settle(lease)
        server.pause()
        answers = await asyncio.gather(*(one.reserve(wide) for _ in range(20)), return_exceptions=True)
        assert all(isinstance(answer, QuotasUnavailable) for answer in answers)
        server.resume()
        await asyncio.sleep(0.15)
        await until(lambda: held(server) == 0)
        assert await one.is_admitted({KEY: Limits(concurrent_requests=1, tokens_per_day=1)})
        assert one.told == {"settled": 10, "away": 20}


async def test_a_request_that_is_cancelled_while_it_reserves_holds_nothing(server: RedisServer) -> None:
    async with gateway(server.url) as one:
        await one.settle(await one.reserve(ONE_AT_A_TIME))
        server.pause()
        claim = asyncio.create_task(one.reserve(ONE_AT_A_TIME))
        await asyncio.sleep(0.02)
        claim.cancel()
        with pytest.raises(asyncio.CancelledError):
            await claim
        server.resume()
        await asyncio.sleep(0.05)
        await until(lambda: held(server) == 0)
        assert await one.is_admitted(ONE_AT_A_TIME)
        assert one.told == {"settled": 1}


async def test_a_reserve_that_arrives_after_its_cancellation_holds_nothing(server: RedisServer) -> None:
    async with UnreliableWire(server.port) as wire, gateway(wire.url, timeout=0.1) as one:
        await one.settle(await one.reserve(ONE_AT_A_TIME))
        wire.delay(b"reserve")
        with pytest.raises(QuotasUnavailable):
            await one.reserve(ONE_AT_A_TIME)
        await until(lambda: any("cancelled" in key for key in keys(server)))
        await wire.deliver()
        await asyncio.sleep(0.15)
        assert held(server) == 0
        assert await one.is_admitted(ONE_AT_A_TIME)


async def test_a_settlement_whose_answer_is_lost_is_sent_again_and_counts_once(server: RedisServer) -> None:
    day = {KEY: Limits(tokens_per_day=100, concurrent_requests=2)}
    async with UnreliableWire(server.port) as wire, gateway(wire.url, timeout=0.1) as one:
        lease, _ = await one.reserve(day, 10), await one.reserve(day, 10)
        wire.lose_answers(to=b"settle")
        await one.settle(lease, 30)
        assert wire.lost == 1 and one.told == {"settled": 1}
        assert not await one.is_admitted(day, 61)
        assert await one.is_admitted(day, 60)


async def test_leases_from_before_redis_lost_its_data_settle_as_unknown_and_harm_no_counter(
    server: RedisServer,
) -> None:
    limits = {KEY: Limits(tokens_per_minute=100, tokens_per_day=1000, concurrent_requests=2)}
    async with gateway(server.url) as one:
        leases = [await one.reserve(limits, 40) for _ in range(2)]
        server.restart()
        one.history.tokens = 900
        await until_counted(one, limits, 40)
        for lease in leases:
            await one.settle(lease, 5)
        assert one.told["unknown"] == 2
        assert not await one.is_admitted(limits, 61)
        assert await one.is_admitted(limits, 60)
        assert not await one.is_admitted({KEY: Limits(tokens_per_day=1000)}, 1)
        assert not await one.is_admitted(limits, 0)


async def until_counted(of: Gateway, limits: dict[Subject, Limits], tokens: int) -> None:
    for _ in range(50):
        try:
            if await of.is_admitted(limits, tokens):
                return
        except QuotasUnavailable:
            await asyncio.sleep(0.05)
    raise AssertionError("Redis is back and not used")


async def test_scripts_that_redis_forgot_are_brought_again(url: str, redis_server: RedisServer) -> None:
    async with gateway(url) as one:
        for _ in range(3):
            with redis_server.client() as client:
                client.script_flush()
            lease = await one.reserve(ONE_AT_A_TIME)
            with redis_server.client() as client:
                client.script_flush()
            await one.settle(lease)
        assert one.told == {"settled": 3}


async def test_what_a_dead_gateway_held_is_free_again(url: str) -> None:
    limits = {KEY: Limits(concurrent_requests=1, tokens_per_day=10)}
    async with gateway(url, beat=0.05, dead_after=0.3) as alive:
        dead = Gateway(url, dead_after=0.3)  # never started, so it never beats
        assert await dead.is_admitted(limits, 10)
        assert not await alive.is_admitted(limits, 10)
        await asyncio.sleep(0.35)
        assert await alive.is_admitted(limits, 10)
        await asyncio.sleep(0.35)
        assert not await alive.is_admitted(limits, 10)
        await dead.quotas.close()


async def test_a_gateway_that_was_silent_and_comes_back_counts_again(url: str) -> None:
    two = {KEY: Limits(concurrent_requests=2)}
    async with gateway(url, beat=0.05, dead_after=0.2) as other:
        silent = Gateway(url, dead_after=0.2)
        assert await silent.is_admitted(two)
        await asyncio.sleep(0.25)
        assert await silent.is_admitted(two)
        assert not await other.is_admitted(two)
        await silent.quotas.close()


async def test_a_gateway_that_was_forgotten_goes_on_as_another_with_nothing_held(
    url: str, redis_server: RedisServer
) -> None:
    async with gateway(url) as one:
        old = await one.reserve(ONE_AT_A_TIME)
        with redis_server.client() as client:
            client.delete("{clinserve}:quotas:gateways")
        assert await one.is_admitted(ONE_AT_A_TIME)
        await one.settle(old)
        assert not await one.is_admitted(ONE_AT_A_TIME)


async def test_a_gateway_that_closes_leaves_nothing_held(url: str, redis_server: RedisServer) -> None:
    async with gateway(url) as other:
        async with gateway(url) as one:
            (await one.reserve(ONE_AT_A_TIME, 5)).settle(Usage(completion=5))
            await one.reserve({KEY: Limits(concurrent_requests=9)})
        assert one.told == {"settled": 1}
        assert held(redis_server) == 0
        assert await other.is_admitted(ONE_AT_A_TIME)


async def test_of_two_gateways_that_seed_one_counter_the_first_counts(url: str) -> None:
    day = {TENANT: Limits(tokens_per_day=1000)}
    async with gateway(url) as first, gateway(url) as second:
        first.history.tokens = second.history.tokens = 900
        second.history.answers.clear()
        late = asyncio.create_task(second.is_admitted(day, 0))
        await until(lambda: bool(second.history.asked))
        await first.settle(await first.reserve(day, 50), 50)
        second.history.answers.set()
        assert await late
        with pytest.raises(BudgetExhausted, match="has used 950 of its 1000 tokens per day"):
            await second.reserve(day, 51)
        assert await second.is_admitted(day, 50)


async def test_every_key_ends_by_itself_has_the_hash_tag_and_shows_no_name(url: str, redis_server: RedisServer) -> None:
    async with gateway(url) as one:
        limits = {KEY: Limits(9, 9, 9, 9, 9), Subject("tenant", "clinic-of-dr-x"): Limits(9, 9, 9, 9, 9)}
        await one.settle(await one.reserve(limits), 1)
        await one.reserve(limits)
        found = keys(redis_server)
        assert len(found) == 12
        assert all(key.startswith("{clinserve}:quotas:") and "clinic" not in key for key in found)
        assert all(0 < seconds <= 33 * 86400 for seconds in found.values())


async def test_months_end_where_the_calendar_says(url: str) -> None:
    now = 0.0
    async with gateway(url, clock=lambda: now) as one:
        for year in (1999, 2000, 2023, 2024, 2026, 2100):
            for month in range(1, 13):
                begin = datetime(year, month, 1, tzinfo=UTC).timestamp()
                end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp()
                for now in (begin, end - 1):
                    limits = {Subject("key", str(now)): Limits(tokens_per_month=1)}
                    await one.settle(await one.reserve(limits), 1)
                    with pytest.raises(BudgetExhausted) as error:
                        await one.reserve(limits)
                    assert error.value.retry_after == end - now


async def test_by_its_own_clock_redis_counts_the_minute_from_now(url: str) -> None:
    async with gateway(url) as one:
        lease = await one.reserve({KEY: Limits(requests_per_minute=1)})
        assert lease.requests is not None and 60 <= lease.requests.reset <= 61
        with pytest.raises(QuotaExceeded) as error:
            await one.reserve({KEY: Limits(requests_per_minute=1)})
        assert error.value.retry_after is not None and 59 < error.value.retry_after <= 61


async def test_tls_and_a_password_are_used_and_a_wrong_one_counts_as_away_and_is_not_quoted(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    server = RedisServer("--requirepass", "s3cret", certificate=self_signed(tmp_path / "server.pem"))
    try:
        server.start()
        async with gateway(server.url, "s3cret") as one:
            await one.settle(await one.reserve(ONE_AT_A_TIME))
        other = Gateway(server.url, "wr0ng")
        with pytest.raises(QuotasUnavailable) as error:
            await other.reserve(ONE_AT_A_TIME)
        assert error.value.message == QuotasUnavailable.default_message
        await other.quotas.close()
    finally:
        server.stop()


def self_signed(path: Path) -> Path:
    """Certificate and key of 127.0.0.1 in one file."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    unencrypted = serialization.NoEncryption()
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unencrypted)
    path.write_bytes(text + certificate.public_bytes(serialization.Encoding.PEM))
    return path
