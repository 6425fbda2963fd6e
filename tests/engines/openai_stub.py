"""A real HTTP server on loopback that speaks OpenAI as vLLM does: from an echo engine, or by a script of bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

from serving.deployments.environment import free_ports
from serving.engines.echo import EchoEngine
from serving.engines.engine import EngineRequest, Operation
from serving.errors import ServingError

Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class OpenAIStub:
    """A running stub. left: how many clients went away in the middle of an answer."""

    url: str
    paths: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    left: int = 0


@contextlib.asynccontextmanager
async def stub(script: Script) -> AsyncIterator[OpenAIStub]:
    """Answer every completion with the script; GET of anything is 200."""

    async def answer(request: web.Request) -> web.StreamResponse:
        running.headers.append({name.lower(): value for name, value in request.headers.items()})
        running.paths.append(request.path_qs)
        if request.method == "GET":
            return web.json_response({"data": []})
        running.bodies.append(await request.json())
        try:
            return await script(request)
        except asyncio.CancelledError:
            running.left += 1
            raise

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    # A handler is cancelled when its client leaves, as vLLM's are.
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    running = OpenAIStub(f"http://127.0.0.1:{runner.addresses[0][1]}/v1")
    try:
        yield running
    finally:
        await runner.cleanup()


def operation_at(path: str) -> Operation:
    if path.endswith("/embeddings"):
        return "embeddings"
    return "chat" if path.endswith("/chat/completions") else "completions"


def echoing(engine: EchoEngine) -> Script:
    """What vLLM would do, with this engine in its place."""

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        blocks = engine.answer(
            EngineRequest(
                operation=operation_at(request.path),
                body=body,
                stream=bool(body.get("stream")),
                request_id=request.headers["x-request-id"],
                cache_salt="",
            )
        )
        response = web.StreamResponse()
        async with contextlib.aclosing(blocks):
            try:
                async for block in blocks:
                    if not response.prepared:
                        await response.prepare(request)
                    await response.write(block)
            except ServingError as error:
                if not response.prepared:
                    return web.json_response(error_body(error.status, error.message), status=error.status)
                await response.write(b"data: " + json.dumps(error_body(500, "")).encode() + b"\n\ndata: [DONE]\n\n")
        return response

    return answer


def writing(*pieces: bytes, gap: float = 0.0, then: Literal["end", "drop", "hang"] = "end") -> Script:
    """Each piece in a TCP write of its own, `gap` seconds apart; then end well, drop the connection, or say no more."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(gap)
        if then == "hang":
            await asyncio.Event().wait()
        if then == "drop" and request.transport is not None:
            request.transport.abort()
        return response

    return answer


def refusing(status: int, body: object, **headers: str) -> Script:
    """headers: with _ for -."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}

    async def answer(request: web.Request) -> web.StreamResponse:
        if not isinstance(body, dict):
            return web.Response(status=status, headers=sent)
        return web.json_response(body, status=status, headers=sent)

    return answer


def dropping() -> Script:
    """Take the request and drop the connection without a byte."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    return answer


class Moving:
    """Endpoints that name one address after the other, as when a replica has just gone."""

    sleeps = False

    def __init__(self, *urls: str) -> None:
        self.urls, self.asked = urls, 0

    async def wake(self) -> None: ...

    async def pick(self, avoid: Collection[str] = ()) -> str:
        self.asked += 1
        return self.urls[min(self.asked, len(self.urls)) - 1]


def nobody() -> str:
    return f"http://127.0.0.1:{free_ports(1)[0]}/v1"


def error_body(status: int, message: str, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": "BadRequestError", "param": param, "code": status}}
