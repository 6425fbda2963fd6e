"""A vLLM replica as a Ray Serve deployment: Ray's LLMServer with vLLM's own OpenAI app, behind a door with a secret."""

from __future__ import annotations

import asyncio
import hmac
import os
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.deployments.naming import SECRET_HEADER
from serving.secrets import Secrets
from serving.settings import Deployment, VllmEngine

if TYPE_CHECKING:
    from pathlib import Path

    from ray.serve.llm import LLMConfig

_SECRET_HEADER = SECRET_HEADER.encode()
_STOP_SECONDS = 1.0
_OPEN_ROUTES = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/models", "/health"})


class ModelReplica:
    """One running copy of a model.

    It holds an LLMServer instead of being one: the class is then known without importing vLLM, which would cost the
    command line and every gateway ten seconds.
    """

    async def __init__(self, deployment: Deployment, state_dir: Path) -> None:  # type: ignore[misc]  # Serve awaits it
        from ray.serve.llm import LLMServer

        class Server(LLMServer):  # type: ignore[misc]
            async def _start_engine(self) -> None:
                # Ray's own also starts an actor that reports the model to Ray's makers. A hospital's does not.
                await self.engine.start()

        if metrics_dir := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            os.makedirs(metrics_dir, exist_ok=True)  # noqa: PTH103  # a new node has none, and vLLM's metrics need it
        self._secret = Secrets.load(state_dir).engine
        config = llm_config(deployment)
        # Off: Ray's own download of the weights, in a process that imports vLLM once more. vLLM loads directories and
        # Hugging Face ids itself, at the pinned revision, which Ray's download would not look at.
        config.get_or_create_callback().ctx.run_init_node = False
        self._server = Server.sync_init(config)
        await self._server.start()

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        return EngineDoor(await self._server.__serve_build_asgi_app__(), self._secret)

    async def check_health(self) -> None:
        """Raises when the engine is dead; Serve then replaces the replica."""
        await self._server.check_health()


class EngineDoor:
    """Lets only the gateway in, and only to the routes that it uses.

    The engine shares the gateway's port under /_engine/NAME, and vLLM has routes that pause it or load weights;
    its own key check leaves those open. So: the internal secret, compared in constant time, and a list of routes.
    """

    def __init__(self, app: ASGIApp, secret: str) -> None:
        if not secret:
            raise ValueError("the engine secret is empty: nothing would be refused")
        self._app = app
        self._secret = secret.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._may_enter(scope):
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return None
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        await self._let_it_end(asyncio.ensure_future(self._app(scope, receive, send)))

    async def _let_it_end(self, answer: asyncio.Future[None]) -> None:
        """Wait for the answer; if Serve cancels us because the client left, leave vLLM time to stop by itself.

        vLLM runs a whole (not streamed) answer in a task of its own and stops it on the disconnect message. Serve
        delivers that message and cancels the request at the same time; the cancellation wins, and the task would
        generate to its end for nobody (seen with Ray 2.60 and vLLM 0.29).
        """
        try:
            await asyncio.shield(answer)
        except asyncio.CancelledError:
            await asyncio.wait({answer}, timeout=_STOP_SECONDS)
            answer.cancel()
            raise

    def _may_enter(self, scope: Scope) -> bool:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        given = next((value for name, value in scope["headers"] if name == _SECRET_HEADER), b"")
        return hmac.compare_digest(given, self._secret) and path in _OPEN_ROUTES


def llm_config(deployment: Deployment) -> LLMConfig:
    """What Ray's LLMServer needs to know, for CPU and GPU alike. How Serve places the replica is in serving/app.py."""
    from ray.serve.llm import LLMConfig

    engine = deployment.engine
    assert isinstance(engine, VllmEngine)
    args: dict[str, Any] = {"enable_prompt_tokens_details": True} | engine.args
    if engine.tensor_parallel_size > 1:
        args["tensor_parallel_size"] = engine.tensor_parallel_size
    if deployment.model.revision:
        args |= {"revision": deployment.model.revision, "tokenizer_revision": deployment.model.revision}
    return LLMConfig(
        model_loading_config={"model_id": deployment.name, "model_source": deployment.model.source},
        accelerator_type=engine.accelerator_type,
        accelerator_config={"kind": engine.device},
        engine_kwargs=args,
        # Off: it sends vLLM's metrics through Ray's agent. vLLM's own go into the node's one scrape beside ours.
        log_engine_metrics=False,
    )
