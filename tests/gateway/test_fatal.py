"""A request that replicas die of is final: so its caller is told, in every dialect, for clients and batches alike."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import Any

import pytest
from fastapi import FastAPI

from serving.engines.http import HttpEngine
from serving.errors import FatalRequest
from serving.gateway.lines import AppLines
from tests.conftest import OpenSite
from tests.engines.openai_stub import Moving, dropping, stub, writing
from tests.local import WHOLE, RecordingEngine, chat, error_of

CHAT = "/v1/chat/completions"
SAID = "Two replicas of this deployment ended while they worked on this request"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat()),
        (CHAT, chat(stream=True)),
        ("/openai/deployments/echo/chat/completions?api-version=2024-10-21", chat()),
        ("/models/chat/completions?api-version=2024-05-01-preview", chat()),
        ("/v1/responses", {"model": "echo", "input": "hello"}),
    ],
)
async def test_the_answer_says_so_and_asks_for_no_repeat(site: OpenSite, path: str, body: dict[str, object]) -> None:
    open_site = site(RecordingEngine(items=(), error=FatalRequest()))
    response = await open_site.client().post(path, json=body)
    assert response.status_code == 502 and SAID in response.text
    assert response.headers["x-should-retry"] == "false" and "retry-after" not in response.headers
    (line,) = open_site.log()
    assert (line["outcome"], line["status"], line["completion_tokens"]) == ("fatal_request", 502, 0)


async def test_two_replicas_are_lost_and_the_third_goes_on(site: OpenSite) -> None:
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(stub(one)) for one in (dropping(), dropping(), writing(WHOLE))]
        engine = HttpEngine(Moving(*[one.url for one in replicas]), model="m", ours=True)
        stack.push_async_callback(engine.close)
        open_site = site(engine)
        for _ in range(3):
            error_of(await open_site.client().post(CHAT, json=chat("what they die of")), 502, "fatal_request")
        assert [len(one.bodies) for one in replicas] == [1, 1, 0]
        assert (await open_site.client().post(CHAT, json=chat("another"))).status_code == 200


async def test_a_line_of_a_batch_hears_that_it_is_final(site: OpenSite) -> None:
    for engine, final in ((RecordingEngine(items=(), error=FatalRequest()), True), (RecordingEngine(), False)):
        open_site = site(engine)
        app: Any = open_site.app
        while not isinstance(app, FastAPI):  # a line goes around what stands between it and a network
            app = app._app
        owner = await app.state.parts.keyring.identify(open_site.key)
        answer = await AppLines(app).run(owner, CHAT, json.dumps(chat()).encode())
        assert (answer.status, answer.is_final) == ((502, True) if final else (200, False))
