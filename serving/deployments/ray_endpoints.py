"""Where a deployment's replicas are, asked of Ray Serve: straight to a replica's own port, past the proxy.

It saves a proxy pass and 15-25 ms of TTFT, and Serve's request routers still choose. `choose_replica(_reserve=False)`
and `backend_http_endpoint` are what Ray's own LLM router uses (ray.llm._internal.serve.core.ingress.router) but no
public API: they are used here only, tests/e2e covers them, and without them the way through HAProxy remains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from ray import serve
from ray.serve.exceptions import RayServeException

from serving.deployments.naming import ENGINE_PREFIX, app_name_of
from serving.engines.endpoints import NoReplica
from serving.errors import EngineUnavailable

_PICK_SECONDS = 1.0
_PICKS = 8
"""Until one is found that has not just failed."""
_RETRY_AFTER = 2.0


class RayEndpoints:
    """Endpoints of one deployment. host: the address Serve listens on; port: the proxy's. sleeps: it may have no
    replica for a while.
    """

    def __init__(self, deployment: str, *, host: str, port: int, sleeps: bool = False) -> None:
        self.sleeps = sleeps
        self._app = app_name_of(deployment)
        self._path = f"{ENGINE_PREFIX}{deployment}/v1"
        self._host = host
        self._proxy = f"http://{_reachable(host)}:{port}{self._path}"
        self._handle: Any = None

    async def pick(self, avoid: Collection[str] = ()) -> str:
        for _ in range(_PICKS if avoid else 1):
            base = await self._picked()
            if base not in avoid:
                break
        return base

    async def _picked(self) -> str:
        try:
            async with asyncio.timeout(_PICK_SECONDS):
                handle = await self._resolved()
                async with handle.choose_replica(_reserve=False) as selection:
                    endpoint = selection._replica.backend_http_endpoint
        except (TimeoutError, RayServeException) as error:
            raise NoReplica(retry_after=_RETRY_AFTER) from error
        if endpoint is None:
            return self._proxy
        host, port = endpoint
        # Serve listens on the host it was given; on loopback the node's own address leads nowhere.
        return f"http://{host if self._host == '0.0.0.0' else self._host}:{port}{self._path}"

    async def wake(self) -> None:
        """Waiting for a replica with a place is what Serve counts as a queued request: a policy is told of it at once
        when there is no replica, and the count is right over all gateways and when one of them dies.
        """
        try:
            handle = await self._resolved()
            async with handle.choose_replica():
                pass
        except RayServeException as error:
            raise EngineUnavailable(retry_after=_RETRY_AFTER) from error

    async def _resolved(self) -> Any:
        # Kept: every new handle opens a long poll to the controller.
        if self._handle is None:
            handle = await asyncio.to_thread(serve.get_app_handle, self._app)
            if not handle.is_initialized:
                handle._init()
            self._handle = handle
        return self._handle


def _reachable(host: str) -> str:
    return "127.0.0.1" if host == "0.0.0.0" else host
