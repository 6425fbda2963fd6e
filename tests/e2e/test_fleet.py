"""A fleet of echo replicas on real Ray Serve under a real load: it grows, shrinks, loses nothing, and says why."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import yaml

from tests.e2e.product import ROOT, Product

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]
WORDS = 30
ECHO = {"kind": "echo", "slots": 4, "inter_token": "20ms", "prefill_rate": 20000, "start_time": "1s"}
SCALED = {
    "name": "echo",
    "engine": ECHO,
    "slo": {"ttft_p95": "1s", "tpot_p95": "100ms"},
    "scaling": {"min": 0, "max": 3, "scale_to_zero_after": "8s", "scale_down_after": "8s"},
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    config = tmp_path_factory.mktemp("config") / "fleet.yaml"
    config.write_text(yaml.safe_dump({"keys": {"demo_key_file": "demo.key"}, "deployments": [SCALED]}))
    running = Product(tmp_path_factory.mktemp("state"), str(config))
    running.start()
    yield running
    running.stop()


class Driver:
    """Streams one after the other, so many at a time; what became of each."""

    def __init__(self, product: Product) -> None:
        self._url = f"{product.url}/v1/chat/completions"
        self._headers = {"authorization": f"Bearer {product.key}"}
        self.outcomes: Counter[str] = Counter()
        self.first_tokens: list[tuple[float, float]] = []
        """(when it was asked, seconds)"""

    async def drive(self, streams: int, seconds: float) -> None:
        end = time.monotonic() + seconds
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:

            async def one() -> None:
                while time.monotonic() < end:
                    await self.ask(session)

            await asyncio.gather(*(one() for _ in range(streams)))

    async def ask(self, session: aiohttp.ClientSession) -> None:
        asked, first, text = time.monotonic(), 0.0, b""
        body = {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "word " * WORDS}]}
        async with session.post(self._url, json=body, headers=self._headers) as answer:
            async for line in answer.content:
                first = first or time.monotonic()
                text += line
        if answer.status != 200:
            self.outcomes[str(answer.status)] += 1
            return
        whole = text.endswith(b"data: [DONE]\n\n") and text.count(b'"content":" word"') + 1 == WORDS
        self.outcomes["whole" if whole else "broken"] += 1
        self.first_tokens.append((asked, first - asked))


def scaling_of(product: Product) -> dict[str, Any]:
    """As a script reads it."""
    command = [sys.executable, "-m", "serving.cli", "status", "--url", product.url, "--key", product.key, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    (deployment,) = json.loads(done.stdout)["deployments"]
    scaling: dict[str, Any] = deployment["scaling"]
    return scaling


async def running(product: Product, count: int, seconds: float) -> float:
    """Wait until so many replicas run; how long it took."""
    began, headers = time.monotonic(), {"authorization": f"Bearer {product.key}"}
    async with httpx.AsyncClient(base_url=product.url, headers=headers, timeout=30) as client:
        while True:
            (deployment,) = (await client.get("/admin/v1/status")).json()["deployments"]
            counts = deployment["replicas"] or {"running": -1, "starting": 0, "stopping": 0}
            if counts["running"] == count and not counts["stopping"] + counts["starting"]:
                return time.monotonic() - began
            assert time.monotonic() - began < seconds, deployment
            await asyncio.sleep(0.5)


async def test_from_zero_through_a_spike_and_back_to_zero_no_request_is_lost(fleet: Product) -> None:
    driver = Driver(fleet)
    await running(fleet, 0, 30)
    await driver.drive(1, 1)  # held until a replica runs
    assert driver.outcomes == {"whole": 1}
    spike = asyncio.create_task(driver.drive(16, 25))
    await running(fleet, 3, 25)
    await spike
    late = sorted(seconds for asked, seconds in driver.first_tokens if asked > time.monotonic() - 6)
    await asyncio.gather(driver.drive(1, 20), running(fleet, 0, 120))
    assert driver.outcomes.keys() == {"whole"} and driver.outcomes["whole"] > 150
    assert late[int(0.95 * len(late))] < 2.0, "16 streams on 12 slots, of 0.6 s each"
    changes = scaling_of(fleet)["changes"]
    down = [change for change in changes if change["after"] < change["before"]]
    assert [change["reason"] for change in down] == ["idle", "spare", "spare"]
    assert all(change["before"] - change["after"] == 1 for change in down)
    up = [change["reason"] for change in changes if change["after"] > change["before"]]
    assert up[-1] == "wake" and set(up) <= {"wake", "queue", "concurrency", "tokens"}, changes


def test_the_decisions_are_metrics_a_line_for_people_and_in_the_controllers_log(fleet: Product) -> None:
    command = [sys.executable, "-m", "serving.cli", "status", "--url", fleet.url, "--key", fleet.key]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    assert "echo scales: 0 of 0 to 3" in text and "idle: no request for" in text
    time.sleep(5)  # a gateway looks so often
    metrics = httpx.get(fleet.metrics_url, timeout=30).text
    assert 'clinserve_scaling_replicas{deployment="echo",state="max"} 3.0' in metrics
    assert 'clinserve_scaling_changes{deployment="echo",reason="spare"} 2.0' in metrics
    log = "".join(file.read_text() for file in Path(fleet.logs).rglob("controller*.log"))
    assert "scaling of echo: 1 to 0 replicas, idle: " in log
