"""A vLLM replica as a Ray Serve deployment: Ray's LLMServer with vLLM's own OpenAI app, behind a door with a secret."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
from starlette.types import ASGIApp, Receive, Scope, Send

from serving import hardening
from serving.deployments.adapters import Adapters, Library, NoAdapters, VllmShelf
from serving.deployments.engine_args import with_backend
from serving.deployments.lanes import Lanes
from serving.deployments.naming import SECRET_HEADER
from serving.deployments.schema_gate import Gate, NoGate, SchemaGate
from serving.deployments.starts import Stopwatch, asked_at, keep
from serving.deployments.stuck import Stuck
from serving.deployments.tallies import Costs, Tallies
from serving.deployments.vllm_signals import VllmSignals
from serving.secret_follower import SecretFollower
from serving.secret_versions import VersionedSecret
from serving.settings import Adapter, Deployment, VllmEngine
from serving.telemetry.mapped import reserve_files

if TYPE_CHECKING:
    from ray.serve.llm import LLMConfig

_log = logging.getLogger(__name__)
_SECRET_HEADER = SECRET_HEADER.encode()
_STOP_SECONDS = 1.0
_ADAPTERS_AT_A_TIME = 8
"""In one batch, and in the engine's memory. vLLM's default is one: requests for another would wait for their turn."""
_OPEN_ROUTES = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/models", "/health"})
_USAGE_PATH = "/usage/"
_WORDS = "The patient was seen in clinic and reports no new symptoms."
_SAMPLED = {"max_tokens": 2, "temperature": 0.7, "top_p": 0.9, "top_k": 20, "logprobs": 2}
_WARM: tuple[dict[str, Any], ...] = ({"max_tokens": 4}, _SAMPLED, _SAMPLED | {"n": 2})
"""vLLM compiles its sampler at the first answer that is sampled, for one row and again for several: a first caller with
a temperature stopped everybody's streams for 8.6 s (two cores)."""


class WarmUpFailed(Exception):
    """An engine that does not answer. Serve starts the replica again, and gives up in the end."""


class ModelReplica:
    """One running copy of a model.

    It holds an LLMServer instead of being one: the class is then known without importing vLLM, which would cost the
    command line and every gateway ten seconds.
    """

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        deployment: Deployment,
        engine_secret: Callable[[], VersionedSecret | str],
        weights: Callable[[], Path],
        engine_args: Mapping[str, Any],
        step_timeout: float,
        adapter_weights: Callable[[Adapter], Path],
        secret_seconds: float = 0.0,
    ) -> None:
        """weights, adapter_weights: fetch and verify them, and say where they are on this machine. step_timeout:
        seconds, after which an engine that has work and makes no step is taken for stuck. secret_seconds: between two
        looks for versions of the engine secret; 0 for none.
        """
        from ray.serve.llm import LLMServer

        hardening.keep_private()  # vLLM's processes are children of this one
        watch = Stopwatch(await asyncio.to_thread(asked_at))
        watch.passed("node")

        class Server(LLMServer):  # type: ignore[misc]
            async def _start_engine(self) -> None:
                # Ray's own also starts an actor that reports the model to Ray's makers. A hospital's does not.
                await self.engine.start()

        if metrics_dir := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            os.makedirs(metrics_dir, exist_ok=True)  # noqa: PTH103  # a new node has none, and vLLM's metrics need it
            reserve_files()
        self._secret = VersionedSecret.of(await asyncio.to_thread(engine_secret))
        self._follower = SecretFollower(
            {"engine": self._secret}, lambda: {"engine": VersionedSecret.of(engine_secret())}, every=secret_seconds
        )
        await self._follower.start()
        config = llm_config(deployment, await asyncio.to_thread(weights), engine_args)
        watch.passed("weights")
        # Off: Ray's own download of the weights, which knows neither digests nor revisions.
        config.get_or_create_callback().ctx.run_init_node = False
        self._server = Server.sync_init(config)
        await self._server.start()
        self._lanes = Lanes(slots=engine_of(deployment).batch_lines)
        self._tallies = Tallies()
        self._tallies.watch(self._server.engine._engine_client.output_processor)
        self._signals = VllmSignals(self._server.engine._engine_client)
        self._stuck = Stuck(step_timeout)
        self._gate: Gate = NoGate()
        if engine_of(deployment).args.get("runner") != "pooling":
            self._gate = await SchemaGate.before(self._server.engine._engine_client, engine_of(deployment).grammars)
        self._app = await self._server.__serve_build_asgi_app__()
        watch.passed("engine")
        self._adapters: Library = NoAdapters()
        if deployment.takes_adapters:
            adapters = Adapters(deployment, VllmShelf(self._server.engine._oai_models), adapter_weights)
            await adapters.start()
            self._adapters = adapters
        await warm_up(self._app, deployment)
        watch.passed("warm_up")
        await asyncio.to_thread(keep, deployment.name, watch.start())

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        return EngineDoor(self._app, self._secret, self._tallies, self._lanes, self._adapters)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Asked by Serve once a second where the deployment scales."""
        return self._signals.read().to_numbers()

    async def check_health(self) -> None:
        """Raises when the engine is dead, or stuck, which ends it; Serve then replaces the replica."""
        if self._stuck.look(steps=self._signals.steps, has_work=self._signals.has_work):
            _log.error("the engine has work and makes no step: it is ended")
            _end_engine()
        await self._server.check_health()


async def warm_up(app: ASGIApp, deployment: Deployment) -> None:
    """Some short answers, before Serve counts the replica as running: what a first request pays (kernels, caches, a
    tokenizer) is paid, and a replica that cannot answer takes none. Raises WarmUpFailed.
    """
    pooling = engine_of(deployment).args.get("runner") == "pooling"
    path, words = ("/v1/embeddings", {"input": _WORDS}) if pooling else ("/v1/completions", {"prompt": _WORDS})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://warm-up") as client:
        for fields in [{}] if pooling else _WARM:
            answer = await client.post(path, json={"model": deployment.name, **words, **fields}, timeout=None)
            if answer.status_code != 200:
                raise WarmUpFailed(f"the engine of '{deployment.name}' is up and answers {answer.status_code}")


def _end_engine() -> None:
    """A process that hangs does not end with its parent: it would keep its GPU."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.name().startswith("VLLM"):
                child.kill()


class EngineDoor:
    """Lets only the gateway in, and only to the routes that it uses.

    The engine shares the gateway's port under /_engine/NAME, and vLLM has routes that pause it or load weights;
    its own key check leaves those open. So: the internal secret, compared in constant time, and a list of routes.
    One route is the door's own: /usage/REQUEST_ID tells what a request has cost.
    """

    def __init__(
        self, app: ASGIApp, secret: VersionedSecret | str, tallies: Costs, lanes: Lanes, adapters: Library
    ) -> None:
        if not secret:
            raise ValueError("the engine secret is empty: nothing would be refused")
        self._app = app
        self._secret = VersionedSecret.of(secret)
        self._tallies = tallies
        self._lanes = lanes
        self._adapters = adapters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            if not self._knows_secret(scope):
                return await _send(send, 404)
            if path.startswith(_USAGE_PATH):
                tally = await self._tallies.of(path.removeprefix(_USAGE_PATH))
                return await (_send(send, 404) if tally is None else _send(send, 200, json.dumps(tally).encode()))
            if path not in _OPEN_ROUTES:
                return await _send(send, 404)
        lane, send = self._lanes.of(scope, send)
        async with self._adapters.used_by(scope) as loaded, lane:
            if not loaded:
                return await _send(send, 503)
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

    def _knows_secret(self, scope: Scope) -> bool:
        given = next((value for name, value in scope["headers"] if name == _SECRET_HEADER), b"")
        known = [hmac.compare_digest(given, version.value) for version in self._secret.versions]
        return any(known)  # of all, so that the time tells nothing


async def _send(send: Send, status: int, body: bytes = b"") -> None:
    headers = [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def engine_of(deployment: Deployment) -> VllmEngine:
    assert isinstance(deployment.engine, VllmEngine)
    return deployment.engine


def llm_config(deployment: Deployment, weights: Path, engine_args: Mapping[str, Any]) -> LLMConfig:
    """What Ray's LLMServer needs to know, for CPU and GPU alike. How Serve places the replica:
    serving/applications.py.

    engine_args: the installation's; the deployment's own go before them.
    """
    from ray.serve.llm import LLMConfig

    engine = engine_of(deployment)
    return LLMConfig(
        model_loading_config={"model_id": deployment.name, "model_source": str(weights)},
        accelerator_type=engine.accelerator_type,
        accelerator_config={"kind": engine.device},
        engine_kwargs=engine_kwargs(deployment, engine_args),
        # Off: it sends vLLM's metrics through Ray's agent. vLLM's own go into the node's one scrape beside ours.
        log_engine_metrics=False,
    )


def engine_kwargs(deployment: Deployment, engine_args: Mapping[str, Any]) -> dict[str, Any]:
    """What vLLM is told: the product's, the installation's, the deployment's own; the last to say something counts."""
    engine = engine_of(deployment)
    args: dict[str, Any] = {"enable_prompt_tokens_details": True, "scheduling_policy": "priority"}
    if deployment.takes_adapters:
        args |= {"enable_lora": True, "max_loras": _ADAPTERS_AT_A_TIME}
    args |= {**engine_args, **engine.args}
    if engine.tensor_parallel_size > 1:
        args["tensor_parallel_size"] = engine.tensor_parallel_size
    return with_backend(args)
