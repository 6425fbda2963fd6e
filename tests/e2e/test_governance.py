"""Exactness of governance on the whole product: two gateways, PostgreSQL, Redis, real vLLM, clients that leave."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import sqlalchemy

from tests.e2e.governed import FAILING, KEYS, MODEL, TENANTS, FailingEndpoint, Traffic, configuration
from tests.e2e.product import ROOT, Product
from tests.tenants.conftest import missing
from tests.tenants.postgresql_server import PostgresServer, binaries
from tests.tenants.redis_server import RedisServer, installed

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
REQUESTS_PER_MINUTE = 40
TOKENS_PER_MINUTE = 30_000


@dataclass
class Hospital:
    """The running product, its servers and its keys."""

    product: Product
    database: PostgresServer
    redis: RedisServer
    failing: FailingEndpoint
    keys: list[str]

    def clinserve(self, *words: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "serving.cli", "--config", self.product.config, *words],
            cwd=ROOT,
            env=self.product.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def rows(self, query: str) -> list[Any]:
        engine = sqlalchemy.create_engine(self.database.url)
        with engine.begin() as connection:
            result = connection.exec_driver_sql(query)
            rows = list(result.mappings()) if result.returns_rows else []
        engine.dispose()
        return rows

    def metric(self, pattern: str) -> float:
        """Sum of the series that the pattern begins, in the node's one scrape."""
        text = httpx.get(self.product.metrics_url, timeout=30).text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(pattern, line))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    if binaries() is None:
        missing("postgresql")
    if not installed():
        missing("redis-server")
    folder = tmp_path_factory.mktemp("governed")
    failing, counters = FailingEndpoint(), RedisServer()
    database = PostgresServer(binaries() or Path())
    try:
        database.start()
        counters.start()
        config = configuration(folder, database=database.url, redis=counters.url, failing=failing.start())
        product = Product(folder / "state", str(config))
        one = Hospital(product, database, counters, failing, [])
        product.start()
        try:
            one.keys += provision(one)
            yield one
        finally:
            product.stop()
    finally:
        failing.stop()
        counters.stop()
        database.remove()


def provision(hospital: Hospital) -> list[str]:
    """Twenty keys of four tenants, every fifth with few requests, one tenant with few tokens."""
    admin = (hospital.product.state_dir / "admin.key").read_text().strip()
    keys = []
    with httpx.Client(base_url=f"{hospital.product.url}/admin/v1", headers={"api-key": admin}, timeout=30) as api:
        for number in range(TENANTS):
            api.post("/tenants", json={"id": f"clinic-{number}", "name": "Clinic"}).raise_for_status()
        for number in range(KEYS):
            asked = {"tenant": f"clinic-{number % TENANTS}", "name": f"app-{number}"}
            created = api.post("/keys", json=asked).raise_for_status().json()
            keys.append(created["key"])
            if number % 5 == 0:
                limits = {"requests_per_minute": REQUESTS_PER_MINUTE, "concurrent_requests": 3}
                api.put(f"/limits/key/{created['id']}", json=limits).raise_for_status()
        api.put("/limits/tenant/clinic-3", json={"tokens_per_minute": TOKENS_PER_MINUTE}).raise_for_status()
    time.sleep(3)  # until both gateways have read the limits
    return keys


def settled(hospital: Hospital) -> None:
    """Wait until every request that was admitted is written."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        waiting = hospital.metric("clinserve_backlog_records") + hospital.metric("clinserve_requests_in_flight")
        if waiting == 0 and held(hospital) == 0:
            time.sleep(2)
            return
        time.sleep(0.5)
    raise AssertionError("requests are still unsettled")


def held(hospital: Hospital) -> int:
    """Leases that Redis still knows."""
    counters = redis.Redis.from_url(hospital.redis.url)
    return sum(counters.hlen(key) for key in counters.scan_iter("*leases*"))  # type: ignore[misc]


def vllm_counted(hospital: Hospital) -> tuple[float, float]:
    return hospital.metric("vllm:prompt_tokens_total"), hospital.metric("vllm:generation_tokens_total")


def test_two_thousand_mixed_requests_are_charged_to_the_token(hospital: Hospital) -> None:
    before = vllm_counted(hospital)
    traffic = Traffic(hospital.product.url, hospital.keys)
    asyncio.run(traffic.run(2000))
    settled(hospital)
    after = vllm_counted(hospital)

    assert traffic.left > 100 and traffic.statuses[429] > 50 and traffic.statuses[503] > 30, traffic
    ((sums),) = hospital.rows(
        "SELECT SUM(prompt_tokens) AS prompt, SUM(completion_tokens) AS completion, COUNT(*) AS requests "
        f"FROM usage_records WHERE deployment = '{MODEL}'"
    )
    assert (sums["prompt"], sums["completion"]) == (after[0] - before[0], after[1] - before[1])
    ((failed),) = hospital.rows(
        "SELECT SUM(completion_tokens + CASE WHEN estimated THEN 0 ELSE prompt_tokens END) AS tokens "
        f"FROM usage_records WHERE deployment = '{FAILING}'"  # a prompt is estimated where the endpoint broke off
    )
    assert failed["tokens"] == hospital.failing.tokens
    assert traffic.lost == 0


def test_every_lease_was_settled_once(hospital: Hospital) -> None:
    ((admitted),) = hospital.rows("SELECT COUNT(*) AS n FROM usage_records")
    assert hospital.metric(r'clinserve_lease_settlements_total\{result="settled"\}') == admitted["n"]
    assert hospital.metric(r'clinserve_lease_settlements_total\{result="(unknown|lost)"\}') == 0
    assert held(hospital) == 0


def test_no_limit_was_exceeded_by_more_than_one_reservation(hospital: Hospital) -> None:
    limited = [row["subject"] for row in hospital.rows("SELECT subject FROM limits WHERE scope = 'key'")]
    assert len(limited) == KEYS / 5
    for key in limited:
        rows = hospital.rows(f"SELECT started_at, duration FROM usage_records WHERE key_id = '{key}' ORDER BY 1")
        starts = [row["started_at"].timestamp() for row in rows]
        assert most_within(60, [(start, 1) for start in starts]) <= REQUESTS_PER_MINUTE + 1
    tokens = [
        (row["started_at"].timestamp(), row["tokens"])
        for row in hospital.rows(
            "SELECT started_at, prompt_tokens + completion_tokens AS tokens FROM usage_records "
            "WHERE tenant = 'clinic-3' ORDER BY 1"
        )
    ]
    assert tokens and most_within(60, tokens) <= TOKENS_PER_MINUTE + max(count for _, count in tokens)


def most_within(seconds: float, events: list[tuple[float, int]]) -> int:
    """The largest sum of any window so long."""
    most = total = first = 0
    for at, count in events:
        total += count
        while events[first][0] <= at - seconds:
            total -= events[first][1]
            first += 1
        most = max(most, total)
    return most


def test_the_audit_chains_of_both_gateways_verify_and_a_changed_record_is_found(hospital: Hospital) -> None:
    hospital.clinserve("audit", "verify")
    chains = hospital.rows("SELECT chain, COUNT(*) AS n FROM audit_records WHERE kind = 'inference' GROUP BY chain")
    assert len(chains) == 2 and all(chain["n"] > 200 for chain in chains)
    chain, seq = chains[0]["chain"], 77
    ((row),) = hospital.rows(f"SELECT body FROM audit_records WHERE chain = '{chain}' AND seq = {seq}")
    changed = re.sub(r'"completion_tokens":\d+', '"completion_tokens":1', row["body"])
    replace = f"UPDATE audit_records SET body = %s WHERE chain = '{chain}' AND seq = {seq}"
    engine = sqlalchemy.create_engine(hospital.database.url)
    for body, status in ((changed, 2), (row["body"], 0)):
        with engine.begin() as connection:
            connection.exec_driver_sql(replace, (body,))
        said = hospital.clinserve("audit", "verify", status=status)
        assert (chain in said and str(seq) in said) or status == 0
    engine.dispose()


def test_redis_and_then_the_database_go_away_under_load_and_come_back(hospital: Hospital) -> None:
    before = vllm_counted(hospital)
    ((already),) = hospital.rows(
        f"SELECT SUM(prompt_tokens) AS p, SUM(completion_tokens) AS c FROM usage_records WHERE deployment = '{MODEL}'"
    )
    free = [key for number, key in enumerate(hospital.keys) if number % 5 and number % TENANTS != 3]
    traffic = Traffic(hospital.product.url, free)

    async def drill() -> None:
        load = asyncio.create_task(traffic.run(900, concurrency=24, seed=2))
        for server in (hospital.redis, hospital.database):
            await asyncio.sleep(3)
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(8)
            await asyncio.to_thread(server.start)
            await asyncio.sleep(3)
        await load

    asyncio.run(drill())
    settled(hospital)
    after = vllm_counted(hospital)
    assert hospital.metric("clinserve_quotas_away_total") > 0
    assert traffic.lost == 0 and set(traffic.statuses) <= {200, 503}, traffic
    ((sums),) = hospital.rows(
        f"SELECT SUM(prompt_tokens) AS p, SUM(completion_tokens) AS c FROM usage_records WHERE deployment = '{MODEL}'"
    )
    charged = (sums["p"] - already["p"], sums["c"] - already["c"])
    assert charged == (after[0] - before[0], after[1] - before[1])
    hospital.clinserve("audit", "verify")
    assert json.loads(hospital.clinserve("usage", "--by", "deployment", "--json"))
