"""The door of an engine replica: in with the internal secret, on the routes that the gateway uses, and nowhere else."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from serving.deployments.adapters import NoAdapters
from serving.deployments.lanes import Lanes
from serving.deployments.model_replica import EngineDoor
from serving.deployments.naming import SECRET_HEADER
from serving.deployments.tallies import Tallies

SECRET = "0123456789abcdef"
PREFIX = "/_engine/big"
OPEN = ["/v1/chat/completions", "/v1/completions", "/v1/models", "/health"]


class Engine:
    """Counts who got in; answers 200, or waits for the client to leave."""

    def __init__(self, *, waits: bool = False) -> None:
        self.let_in = 0
        self.saw_the_client_leave = False
        self._waits = waits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.let_in += 1
        if self._waits:
            self.saw_the_client_leave = (await receive())["type"] == "http.disconnect"
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"engine"})


async def nothing() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def knock(
    path: str, *, secret: str | None = SECRET, root_path: str = PREFIX, kind: str = "http"
) -> list[Message]:
    """What is sent to a client who asks for this path. Ray's direct ingress keeps the prefix in both paths."""
    engine, sent = Engine(), list[Message]()
    headers = [] if secret is None else [(SECRET_HEADER.encode(), secret.encode())]
    scope = {"type": kind, "method": "POST", "path": root_path + path, "root_path": root_path, "headers": headers}

    async def send(message: Message) -> None:
        sent.append(message)

    await EngineDoor(engine, SECRET, Tallies(), Lanes(slots=4), NoAdapters())(scope, nothing, send)
    assert engine.let_in == (sent[-1].get("body") == b"engine")
    return sent


@pytest.mark.parametrize("root_path", [PREFIX, ""])
@pytest.mark.parametrize("path", OPEN)
async def test_the_gateway_gets_in_on_its_routes_with_and_without_a_prefix(path: str, root_path: str) -> None:
    assert (await knock(path, root_path=root_path))[0]["status"] == 200


@pytest.mark.parametrize("secret", [None, "", "wrong", SECRET[:-1], SECRET + "0", SECRET.upper(), "é"])
@pytest.mark.parametrize("path", OPEN)
async def test_without_the_secret_there_is_nothing_here(path: str, secret: str | None) -> None:
    start, body = await knock(path, secret=secret)
    assert (start["status"], body["body"]) == (404, b"")


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/pause", "/sleep", "/wake_up", "/collective_rpc", "/v1/load_lora_adapter", "/metrics",
        "/openapi.json", "/tokenize", "/v1/models/x", "/v1/chat/completions/", "//v1/models", "/v1/../pause",
        "/V1/models", "/_engine/big/v1/models", "/_engine/other/v1/models", "/health/",
    ],
)  # fmt: skip
async def test_the_secret_opens_no_other_route(path: str) -> None:
    assert (await knock(path))[0]["status"] == 404


async def test_a_websocket_is_closed() -> None:
    assert await knock("/v1/chat/completions", kind="websocket") == [{"type": "websocket.close", "code": 1008}]


async def test_the_engines_start_and_stop_pass() -> None:
    engine = Engine()
    await EngineDoor(engine, SECRET, Tallies(), Lanes(slots=4), NoAdapters())(
        {"type": "lifespan"}, nothing, lambda message: asyncio.sleep(0)
    )
    assert engine.let_in == 1


async def test_a_request_that_is_cancelled_lets_the_engine_see_its_client_leave() -> None:
    engine, left = Engine(waits=True), asyncio.Event()

    async def receive() -> Message:
        await left.wait()
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": "/health", "headers": [(SECRET_HEADER.encode(), SECRET.encode())]}
    request = asyncio.create_task(
        EngineDoor(engine, SECRET, Tallies(), Lanes(slots=4), NoAdapters())(
            scope, receive, lambda message: asyncio.sleep(0)
        )
    )
    await asyncio.sleep(0.01)
    request.cancel()
    left.set()
    await asyncio.wait({request})
    assert request.cancelled() and engine.saw_the_client_leave


async def test_an_exception_of_the_engine_comes_out() -> None:
    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("of the engine")

    scope = {"type": "http", "method": "GET", "path": "/health", "headers": [(SECRET_HEADER.encode(), SECRET.encode())]}
    with pytest.raises(RuntimeError, match="of the engine"):
        await EngineDoor(breaks, SECRET, Tallies(), Lanes(slots=4), NoAdapters())(
            scope, nothing, lambda message: asyncio.sleep(0)
        )
