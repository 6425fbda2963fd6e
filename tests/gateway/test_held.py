"""A request that is held, through the whole gateway: one lease, one place, one charge, and free when it leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from serving.app import build_keyring, build_parts
from serving.engines.endpoints import NoReplica
from serving.engines.engine import EngineRequest
from serving.gateway.app import create_app
from serving.gateway.middleware import RequestId, UntilClientLeaves
from serving.settings import parse
from tests.engines.openai_stub import stub, writing
from tests.local import DONE, ROLE, Site, assert_says_when_to_come_back, chat, error_of, event

PATH = "/v1/chat/completions"
USAGE = event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7})


@dataclass
class Sleeping:
    """A deployment whose replica runs once it is told to."""

    url: str
    sleeps: bool = True
    up: asyncio.Event = field(default_factory=asyncio.Event)

    async def pick(self, request: EngineRequest | None = None, avoid: Collection[str] = ()) -> Any:
        if not self.up.is_set():
            raise NoReplica(retry_after=1.0)
        return self.url

    async def wake(self) -> None:
        await self.up.wait()


@asynccontextmanager
async def gateway(state: Path, **hold: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Sleeping]]:
    echo = {
        "name": "echo",
        "engine": {"kind": "echo", "place": "replicas"},
        "limits": {"max_in_flight": 2},
        "hold": hold,
    }
    settings = parse({"server": {"state_dir": state}, "telemetry": {"request_log": "off"}, "deployments": [echo]})
    async with stub(writing(ROLE, USAGE, DONE)) as running:
        deployment = Sleeping(running.url)
        parts = build_parts(settings, lambda name: deployment)
        parts.administration.ensure_tenant("ward")
        app = UntilClientLeaves(RequestId(create_app(parts)))
        key = build_keyring(settings).mint("ward", "tests")[1].reveal()
        async with Site(app, settings, key).client() as client:
            yield client, deployment
        for one in parts.catalog:
            await one.engine.close()


async def test_it_has_one_place_while_it_is_held_and_is_answered_as_any_other(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (client, deployment):
        held = [asyncio.create_task(client.post(PATH, json=chat(stream=True))) for _ in range(2)]
        await asyncio.sleep(0.1)
        error_of(await client.post(PATH, json=chat()), 429, "rate_limit_exceeded")  # the two are in flight
        deployment.up.set()
        answers = await asyncio.gather(*held)
        assert [answer.status_code for answer in answers] == [200, 200]
        assert all(answer.content.endswith(DONE) for answer in answers)
        assert (await client.post(PATH, json=chat(stream=True))).status_code == 200, "the places are free again"


async def test_a_client_that_leaves_gives_its_place_back(tmp_path: Path) -> None:
    async with gateway(tmp_path) as (client, deployment):
        held = [asyncio.create_task(client.post(PATH, json=chat(stream=True))) for _ in range(2)]
        await asyncio.sleep(0.1)
        for one in held:
            one.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        deployment.up.set()
        assert (await client.post(PATH, json=chat(stream=True))).status_code == 200


async def test_who_is_not_held_long_enough_gets_503_and_when_to_come_back_and_never_404(tmp_path: Path) -> None:
    async with gateway(tmp_path, seconds=0.05) as (client, deployment):
        refused = await client.post(PATH, json=chat(stream=True))
        error_of(refused, 503, "engine_starting")
        assert_says_when_to_come_back(refused)
        assert (await client.get("/readyz")).status_code == 200, "a request would wake it"
        deployment.up.set()
        assert (await client.post(PATH, json=chat(stream=True))).status_code == 200
