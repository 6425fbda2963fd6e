"""The product as a platform team runs it: two gateways, PostgreSQL, Redis, a real model and an engine that fails."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from aiohttp import web

from tests.e2e.product import ROOT

MODEL, FAILING = "clinical-demo", "failing"
KEYS, TENANTS = 20, 4
NOTE = "67-year-old woman with hypertension. Medications: lisinopril 10 mg daily. Allergies: penicillin (rash). "


def configuration(folder: Path, *, database: str, redis: str, failing: str) -> Path:
    """demo.yaml with two gateways, the servers, and a second deployment on an endpoint that fails."""
    tree = yaml.safe_load((ROOT / "deploy/configs/demo.yaml").read_text())
    tree["deployments"][0]["model"]["source"] = str(ROOT / "deploy/demo_model/clinical-demo")
    tree["deployments"].append({"name": FAILING, "engine": {"kind": "http", "url": failing}})
    tree["gateway"] = {"replicas": 2}
    tree["batches"] = {"shared": True}  # both are on this machine
    tree["database"] = {"url": database}
    # The default is never reached: with it, every request holds a lease that must be settled.
    tree["quotas"] = {"redis": redis, "defaults": {"deployment": {"tokens_per_day": 10**12}}}
    file = folder / "governed.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


class FailingEndpoint:
    """An OpenAI endpoint that counts each token as it writes it, and breaks off, refuses or lasts as it likes."""

    def __init__(self) -> None:
        self.tokens = 0
        self._random = random.Random(5)
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None

    def start(self) -> str:
        ready = threading.Event()

        async def serve() -> None:
            app = web.Application()
            app.router.add_get("/v1/models", lambda request: web.json_response({"data": []}))
            app.router.add_post("/v1/chat/completions", self._answer)
            self._runner = web.AppRunner(app)
            await self._runner.setup()
            await web.TCPSite(self._runner, "127.0.0.1", 0).start()
            ready.set()

        def run() -> None:
            self._loop.run_until_complete(serve())
            self._loop.run_forever()

        threading.Thread(target=run, daemon=True).start()
        ready.wait(10)
        assert self._runner is not None
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self._random.random() < 0.3:
            return web.Response(status=503)
        if not body.get("stream"):
            self.tokens += 7
            usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
            return web.json_response({"object": "chat.completion", "choices": [], "usage": usage})
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(_event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}))
        for _ in range(self._random.randint(1, 12)):
            self.tokens += 1
            await response.write(_event({"choices": [{"index": 0, "delta": {"content": "x"}}]}))
        assert request.transport is not None
        request.transport.close()  # after what was written: it arrives, and then the answer breaks off
        return response


def _event(payload: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


@dataclass
class Traffic:
    """Mixed requests of many keys, and what their clients saw."""

    url: str
    keys: list[str]
    statuses: Counter[int] = field(default_factory=Counter)
    left: int = 0
    lost: int = 0

    async def run(self, requests: int, *, concurrency: int = 48, seed: int = 1) -> None:
        chance = random.Random(seed)
        plans = [(chance.choice(self.keys), chance.random(), chance.random(), chance.random()) for _ in range(requests)]
        queue = iter(plans)
        limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
        async with httpx.AsyncClient(base_url=self.url, timeout=120, limits=limits) as client:

            async def work() -> None:
                for plan in queue:
                    try:
                        await self._one(client, *plan)
                    except httpx.HTTPError:
                        self.lost += 1

            await asyncio.gather(*(work() for _ in range(concurrency)))

    async def _one(self, client: httpx.AsyncClient, key: str, kind: float, where: float, when: float) -> None:
        model = FAILING if where < 0.15 else MODEL
        body = {
            "model": model,
            "messages": [{"role": "user", "content": NOTE * (1 + int(where * 5)) + "Which medications?"}],
            "max_tokens": 8 + int(when * 40),
            "ignore_eos": kind < 0.5,
            "stream": kind < 0.75,
        }
        headers = {"authorization": f"Bearer {key}"}
        leaves = model == MODEL and 0.25 < kind < 0.5
        async with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
            self.statuses[response.status_code] += 1
            chunks = 0
            async for _ in response.aiter_bytes():
                chunks += 1
                if leaves and chunks > when * 20:
                    self.left += 1
                    return
