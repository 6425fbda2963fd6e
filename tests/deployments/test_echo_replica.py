"""Echo replicas speak as vLLM's do: behind the same door, by the same engine that the gateway asks vLLM with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing

import httpx
import pytest
import uvicorn

from serving.deployments import echo_replica
from serving.deployments.echo_replica import EchoReplica
from serving.deployments.environment import free_ports
from serving.deployments.naming import SECRET_HEADER
from serving.engines.echo import EchoEngine, PlannedFailure
from serving.engines.endpoints import FixedEndpoint
from serving.engines.engine import EngineRequest, Tally
from serving.engines.http import HttpEngine
from serving.errors import ContextTooLong, EngineFailed, EngineUnavailable
from tests.local import DONE, chat, events, eventually, text_of

SECRET = "engine secret"
FAILURES = [PlannedFailure("REFUSE", "refuse"), PlannedFailure("BREAK", "die", after=2)]


@pytest.fixture
async def replica(monkeypatch: pytest.MonkeyPatch) -> EchoReplica:
    monkeypatch.setattr(echo_replica, "keep", lambda *_: None)  # there is no Ray to keep it
    made = EchoReplica.__new__(EchoReplica)
    engine = EchoEngine(inter_token=0.005, max_model_len=50, slots=2, prefill_rate=10_000, failures=FAILURES)
    await made.__init__("echo", lambda: engine, lambda: SECRET, 0.0)  # type: ignore[misc]
    return made


@pytest.fixture
async def url(replica: EchoReplica) -> AsyncIterator[str]:
    (port,) = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(await replica.__serve_build_asgi_app__(), port=port, log_level="warning"))
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.005)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await running


@pytest.fixture
async def engine(url: str) -> AsyncIterator[HttpEngine]:
    asked = HttpEngine(
        FixedEndpoint(f"{url}/v1"), model="echo", headers={SECRET_HEADER: SECRET}, ours=True, ready_path="/health"
    )
    yield asked
    await asked.close()


def asking(text: str, *, stream: bool = True, number: int = 1) -> EngineRequest:
    body = chat(text, stream=True, stream_options={"include_usage": True}) if stream else chat(text)
    return EngineRequest("chat", body, stream=stream, request_id=f"req_{number:024x}", cache_salt="salt")


async def read(engine: HttpEngine, request: EngineRequest) -> bytes:
    return b"".join([item async for item in engine.answer(request)])


async def test_streams_and_whole_answers_come_through(engine: HttpEngine) -> None:
    assert await engine.ready()
    answer = await read(engine, asking("one two three"))
    assert answer.endswith(DONE) and text_of(events(answer)) == "one two three"
    whole = json.loads(await read(engine, asking("one two", stream=False)))
    assert whole["usage"]["completion_tokens"] == 2


async def test_failures_are_the_gateways_errors(engine: HttpEngine) -> None:
    with pytest.raises(ContextTooLong):
        await read(engine, asking("word " * 60))
    with pytest.raises(EngineUnavailable):
        await read(engine, asking("REFUSE"))
    with pytest.raises(EngineFailed):
        await read(engine, asking("one two BREAK"))


async def test_a_client_that_leaves_frees_its_slot_and_is_charged_what_it_got(
    engine: HttpEngine, replica: EchoReplica
) -> None:
    request = asking(" ".join(["word"] * 20))
    async with aclosing(engine.answer(request)) as items:
        await anext(items)
        assert (await replica.record_autoscaling_stats())["running"] == 1
    await eventually(lambda: replica._engine.running == 0)
    tally = await engine.reckon(request.request_id)
    assert isinstance(tally, Tally) and tally.prompt == 20 and 1 <= tally.completion < 20


async def test_requests_beyond_the_slots_wait_and_are_reported(engine: HttpEngine, replica: EchoReplica) -> None:
    asked = [asyncio.create_task(read(engine, asking("a b c d " * 5, number=n))) for n in range(6)]
    await eventually(lambda: replica._engine.running == 2)
    await asyncio.sleep(0.03)
    signals = await replica.record_autoscaling_stats()
    assert (signals["running"], signals["waiting"]) == (2, 4) and signals["prefill_backlog"] >= 80
    await asyncio.gather(*asked)
    signals = await replica.record_autoscaling_stats()
    assert (signals["running"], signals["waiting"]) == (0, 0)
    assert signals["decode_rate"] > 0 and signals["ttft_p95"] > 0.05 and signals["tpot_p95"] >= 0.005


async def test_without_the_secret_the_door_is_shut(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        assert (await client.get("/v1/models")).status_code == 404
        assert (await client.get("/v1/models", headers={SECRET_HEADER: SECRET})).status_code == 200
