"""The echo engine in replicas of its own under Ray Serve: the same door, routes and signals as a vLLM replica's.

So that everything about a fleet (scaling, waking, draining, routing) can be tried on a laptop.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from serving import hardening
from serving.deployments.adapters import NoAdapters
from serving.deployments.lanes import Lanes
from serving.deployments.model_replica import EngineDoor
from serving.deployments.starts import Stopwatch, asked_at, keep
from serving.engines.echo import EchoEngine
from serving.engines.engine import EngineRequest, Operation
from serving.errors import EngineFailed, ServingError
from serving.gateway.middleware import UntilClientLeaves
from serving.protocol import sse
from serving.secret_follower import SecretFollower
from serving.secret_versions import VersionedSecret

_LINES = 32


class EchoReplica:
    """One running copy. start_time: seconds until it serves, as a model takes to load."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        name: str,
        engine: Callable[[], EchoEngine],
        engine_secret: Callable[[], VersionedSecret | str],
        start_time: float,
        secret_seconds: float = 0.0,
    ) -> None:
        hardening.keep_private()
        watch = Stopwatch(await asyncio.to_thread(asked_at))
        watch.passed("node")
        self._name = name
        self._secret = VersionedSecret.of(await asyncio.to_thread(engine_secret))
        self._follower = SecretFollower(
            {"engine": self._secret}, lambda: {"engine": VersionedSecret.of(engine_secret())}, every=secret_seconds
        )
        await self._follower.start()
        await asyncio.sleep(start_time)
        self._engine = engine()
        self._lanes = Lanes(slots=_LINES)
        watch.passed("engine")
        await asyncio.to_thread(keep, name, watch.start())

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        return EngineDoor(
            echo_app(self._engine, self._name), self._secret, EchoTallies(self._engine), self._lanes, NoAdapters()
        )

    async def record_autoscaling_stats(self) -> dict[str, float]:
        return self._engine.signals().to_numbers()


class EchoTallies:
    """What answers that ended early have cost, as the engine knows it at once."""

    def __init__(self, engine: EchoEngine) -> None:
        self._engine = engine

    async def of(self, request_id: str) -> dict[str, int] | None:
        tally = await self._engine.reckon(request_id)
        return asdict(tally) if tally else None


def echo_app(engine: EchoEngine, name: str) -> ASGIApp:
    """OpenAI over HTTP, from the echo engine; as much of vLLM's application as the gateway uses."""

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"}]})

    async def health(request: Request) -> Response:
        return Response(status_code=200 if await engine.ready() else 503)

    def answering(operation: Operation) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            return _Answer(engine, _asked(request, operation, await request.json()))

        return answer

    return UntilClientLeaves(
        Starlette(
            routes=[
                Route("/v1/chat/completions", answering("chat"), methods=["POST"]),
                Route("/v1/completions", answering("completions"), methods=["POST"]),
                Route("/v1/embeddings", answering("embeddings"), methods=["POST"]),
                Route("/v1/models", models),
                Route("/health", health),
            ]
        )
    )


def _asked(request: Request, operation: Operation, body: dict[str, Any]) -> EngineRequest:
    return EngineRequest(
        operation=operation,
        body=body,
        stream=bool(body.get("stream")),
        request_id=request.headers.get("x-request-id", ""),
        cache_salt="",
        priority=body.get("priority", 0),
    )


class _Answer(Response):
    """The engine's answer as it comes. A failure before its first item is a status, one after it an error event."""

    def __init__(self, engine: EchoEngine, request: EngineRequest) -> None:
        super().__init__(media_type="text/event-stream" if request.stream else "application/json")
        del self.headers["content-length"]
        self._engine = engine
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False
        async with contextlib.aclosing(self._engine.answer(self._request)) as items:
            try:
                async for item in items:
                    if not begun:
                        begun = True
                        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
                        await send(start)
                    await send({"type": "http.response.body", "body": item, "more_body": True})
            except ServingError as error:
                if not begun:
                    return await _refusal(error)(scope, receive, send)
                await send(
                    {"type": "http.response.body", "body": sse.encode(_error(EngineFailed())), "more_body": True}
                )
        await send({"type": "http.response.body", "body": b""})


def _error(error: ServingError) -> dict[str, Any]:
    return {"error": {"message": error.message, "type": error.kind, "param": error.param, "code": error.status}}


def _refusal(error: ServingError) -> Response:
    headers = {} if error.retry_after is None else {"retry-after": str(math.ceil(error.retry_after))}
    return JSONResponse(_error(error), status_code=error.status, headers=headers)
