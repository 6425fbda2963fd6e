"""The engine that costs nothing, for Ray Serve LLM: Ray's engines live inside its replicas, so this one does too.

Ray finds it by RAYLLM_VLLM_ENGINE_CLS, the door that it has for tests. The events are those of echo.py.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.responses import Response

from loadtests.overhead.echo import STEP_ENV, Frames


class EchoEngine:
    """As much of Ray's LLMEngine as chat needs. llm_config: Ray's, of which only the model's name matters."""

    def __init__(self, llm_config: Any) -> None:
        self._frames = Frames(llm_config.model_id)
        self._step_s = float(os.environ.get(STEP_ENV, "10")) / 1e3

    async def start(self) -> None:
        return

    async def check_health(self) -> None:
        return

    async def chat(self, request: Any, raw_request_info: Any = None) -> AsyncIterator[Any]:
        """Yield events where the request streams, else the one answer: what Ray's ingress expects of vLLM."""
        tokens = request.max_completion_tokens or request.max_tokens or 16
        if request.stream:
            async for event in self._events(tokens):
                yield event
            return
        from ray.llm._internal.serve.core.configs.openai_api_models import ChatCompletionResponse

        await asyncio.sleep((tokens - 1) * self._step_s)
        yield ChatCompletionResponse(**self._frames.whole(tokens))

    async def build_asgi_app(self) -> FastAPI:
        """For direct streaming, which goes to the replica's own application."""
        app = FastAPI()

        @app.get("/v1/models")
        async def models() -> dict[str, Any]:
            return {"object": "list", "data": [{"id": self._frames.model, "object": "model"}]}

        @app.post("/v1/chat/completions", response_model=None)
        async def chat(request: Request) -> Response:
            body = await request.json()
            tokens = body.get("max_completion_tokens") or body.get("max_tokens") or 16
            if body.get("stream"):
                return StreamingResponse(self._events(tokens), media_type="text/event-stream")
            await asyncio.sleep((tokens - 1) * self._step_s)
            return JSONResponse(self._frames.whole(tokens))

        return app

    async def _events(self, tokens: int) -> AsyncIterator[str]:
        loop, token = asyncio.get_running_loop(), self._frames.token
        yield self._frames.role
        yield token
        due = loop.time()
        for _ in range(tokens - 1):
            due = max(due + self._step_s, loop.time())
            await asyncio.sleep(due - loop.time())
            yield token
        yield self._frames.end(tokens)
