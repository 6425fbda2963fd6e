"""The assembly: what the settings say reaches the engines, and each tenant is kept apart in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.app import build_keyring, build_parts
from serving.engines.http import FixedEndpoint
from serving.gateway.app import create_app
from serving.gateway.middleware import RequestId
from serving.secrets import Secrets
from serving.settings import Limits, parse
from tests.conftest import OpenSite
from tests.engines.openai_stub import OpenAIStub, stub, writing
from tests.local import (
    DONE,
    ROLE,
    WHOLE,
    RecordingEngine,
    Site,
    Tree,
    chat,
    error_of,
    eventually,
    listening,
)

PATH = "/v1/chat/completions"


def far(url: str, **engine: Any) -> list[dict[str, Any]]:
    return [{"name": "echo", "engine": {"kind": "http", "url": url} | engine}]


async def test_an_http_deployment_is_asked_by_its_own_name_and_with_its_own_key(
    site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAR_AWAY_KEY", "far-away-key")
    async with stub(writing(WHOLE)) as running:
        open_site = site(deployments=far(running.url, model="name-there", key_env="FAR_AWAY_KEY"))
        with listening(open_site.app) as url:
            async with open_site.client(url) as client:
                assert (await client.post(PATH, json=chat())).content == WHOLE
    assert running.bodies == [chat(model="name-there")]
    assert running.headers[0]["authorization"] == "Bearer far-away-key"
    assert open_site.key not in str(running.headers)


@pytest.mark.parametrize(
    ("setting", "stream", "said", "answer"),
    [
        ("first_token_timeout", True, (), (504, "engine_timeout")),
        ("answer_timeout", False, (), (504, "engine_timeout")),
        ("idle_timeout", True, (ROLE,), (200, "engine_failed")),
    ],
)
async def test_the_settings_patience_is_the_engines(
    site: OpenSite, setting: str, stream: bool, said: tuple[bytes, ...], answer: tuple[int, str]
) -> None:
    async with stub(writing(*said, then="hang")) as running, asyncio.timeout(10):
        open_site = site(deployments=far(running.url), server={setting: "50ms"})
        with listening(open_site.app) as url:
            async with open_site.client(url) as client:
                response = await client.post(PATH, json=chat(stream=stream))
    assert (response.status_code, answer[1] in response.text) == (answer[0], True)
    assert DONE not in response.content


async def test_every_limit_of_the_settings_is_kept(site: OpenSite) -> None:
    engine, tool = RecordingEngine(), {"type": "function", "function": {"name": "x"}}
    limits = {name: 1 for name in Limits.model_fields if name != "schemas"} | {"max_schema": 60, "max_schema_depth": 2}
    client = site(engine, limits=limits).client()
    beyond: list[Tree] = [
        {"max_tokens": 2}, {"n": 2}, {"top_logprobs": 2}, {"stop": ["a", "b"]}, {"tools": [tool, tool]},
        {"tools": [tool | {"x": "x" * 60}]}, {"tools": [tool | {"x": {"y": {}}}]},
    ]  # fmt: skip
    for fields in beyond:
        error_of(await client.post(PATH, json=chat(**fields)), 400, "invalid_request")
    response = await client.post("/v1/completions", json={"model": "echo", "prompt": ["a", "b"]})
    error_of(response, 400, "invalid_request")
    response = await client.post("/v1/embeddings", json={"model": "echo", "input": ["a", "b"]})
    error_of(response, 400, "invalid_request")
    # max_in_flight is tested in gateway/test_chat.py, answer_allowance in test_catalog.py, schemas in test_schemas.py
    assert len(beyond) + 4 == len(limits) and not engine.asked
    assert (await client.post(PATH, json=chat(max_tokens=1, n=1, stop=["a"], tools=[tool]))).status_code == 200


@asynccontextmanager
async def vllm_gateway(state: Path) -> AsyncIterator[tuple[Callable[[str], Awaitable[None]], OpenAIStub]]:
    """A gateway to a vLLM, which is a stub: asks for a tenant."""
    vllm = {"name": "echo", "model": {"source": "org/model"}, "engine": {"kind": "vllm"}}
    settings = parse({"server": {"state_dir": state}, "telemetry": {"request_log": "off"}, "deployments": [vllm]})
    keyring = build_keyring(settings)
    async with stub(writing(WHOLE)) as running:
        parts = build_parts(settings, lambda name, router: FixedEndpoint(running.url))
        for tenant in ("ward", "lab"):
            parts.administration.ensure_tenant(tenant)
        app = RequestId(create_app(parts))

        async def ask(tenant: str) -> None:
            client = Site(app, settings, keyring.mint(tenant, "tests")[1].reveal()).client()
            assert (await client.post(PATH, json=chat())).status_code == 200
            assert (await client.get("/readyz")).status_code == 200

        yield ask, running
        for deployment in parts.catalog:
            await deployment.engine.close()


async def test_each_tenant_has_a_cache_namespace_of_its_own_that_does_not_tell_its_name(tmp_path: Path) -> None:
    async with vllm_gateway(tmp_path) as (ask, running):
        for tenant in ("ward", "lab", "ward"):
            await ask(tenant)
    ward, lab, again = [body["cache_salt"] for body in running.bodies]
    assert ward == again != lab and "ward" not in ward


async def test_vllm_is_asked_with_the_internal_secret_and_never_with_the_callers_key(tmp_path: Path) -> None:
    async with vllm_gateway(tmp_path) as (ask, running):
        await ask("ward")
    secret = Secrets.load(tmp_path).engine.writing.text
    assert [headers["x-clinserve-engine"] for headers in running.headers] == [secret, secret]
    assert "csk_" not in str(running.headers)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_gateway_in_one_process_notices_a_client_that_leaves(site: OpenSite, stream: bool) -> None:
    open_site = site(echo={"failures": [{"when": "", "action": "stall", "after": 1}]})
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.post(PATH, json=chat(stream=stream), timeout=0.1)
        await eventually(lambda: len(open_site.log()) == 1)
    assert open_site.log()[0]["outcome"] == "client_left"


def test_engines_are_closed_with_the_gateway(site: OpenSite) -> None:
    engine = RecordingEngine()
    with listening(site(engine).app) as url:
        assert httpx.get(f"{url}/livez").status_code == 200
        assert not engine.closed
    assert engine.closed
