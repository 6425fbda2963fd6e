"""What Azure OpenAI would do with an echo engine for a model: its paths, its key, its shapes, its stream's habits."""

from __future__ import annotations

import contextlib

from aiohttp import web

from serving.engines.echo import EchoEngine
from serving.engines.engine import EngineRequest
from serving.errors import ServingError
from tests.engines.openai_stub import Script, error_body, operation_at
from tests.local import event

KEY = "azure-key-0123"
VERSION = "2024-10-21"
PATH = "/openai/deployments/gpt there"
FILTERS = event(id="", model="", choices=[], prompt_filter_results=[{"prompt_index": 0, "content_filter_results": {}}])


def azurely(engine: EchoEngine) -> Script:
    """A refusal for a wrong path, version or key; CRLF, keep-alive comments and a `[DONE]` with spaces in streams."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if not request.path.startswith(PATH) or request.query.get("api-version") != VERSION:
            return web.json_response({"error": {"code": "404", "message": "Resource not found"}}, status=404)
        if request.headers.get("api-key") != KEY:
            return web.json_response({"error": {"code": "401", "message": "Access denied"}}, status=401)
        body = await request.json()
        asked = EngineRequest(operation_at(request.path), body, bool(body.get("stream")), "req_there", "")
        response = web.StreamResponse()
        async with contextlib.aclosing(engine.answer(asked)) as blocks:
            try:
                async for block in blocks:
                    if not response.prepared:
                        await response.prepare(request)
                        if asked.stream and asked.operation == "chat":
                            await response.write(b": keep-alive\r\n\r\n" + FILTERS)
                    if asked.stream:
                        block = block.replace(b"[DONE]", b"[DONE]  ").replace(b"\n", b"\r\n")
                    await response.write(block)
            except ServingError as error:
                if not response.prepared:
                    return web.json_response(error_body(error.status, error.message), status=error.status)
                await response.write(b'data: {"id":"x","error":{"code":"server_error","message":"no"}}\r\n\r\n')
        return response

    return answer
