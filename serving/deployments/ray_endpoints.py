"""Where a deployment's replicas are, read from Ray Serve: straight to a replica's own port, past the proxy.

It saves a proxy pass and 15-25 ms of TTFT, and the choice is ours (serving/routing). Serve keeps the list of running
replicas in the router behind each handle, and takes a replica off it before it stops. Reading the list there, and
`backend_http_endpoint`, which Ray's own LLM router uses too (ray.llm._internal.serve.core.ingress.router), is no public
API: it is done here only, tests/e2e covers it, and the way through HAProxy remains.

Serve's own choice is not used. Asked without reserving, as its LLM router does (`choose_replica(_reserve=False)`), its
power of two takes the first of two random replicas and compares nothing (Ray 2.60, AsyncioRouter.choose_replica); and
to reserve is a call to the replica for each request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from ray import serve
from ray.serve.exceptions import RayServeException

from serving.deployments.naming import ENGINE_PREFIX, app_name_of
from serving.engines.endpoints import FixedEndpoint, NoReplica, Place
from serving.engines.engine import EngineRequest
from serving.errors import EngineUnavailable
from serving.protocol.addresses import origin_of
from serving.routing.router import Router

_PICK_SECONDS = 1.0
_POLL_SECONDS = 0.02
_RETRY_AFTER = 2.0


class RayEndpoints:
    """Endpoints of one deployment. host, port: where the proxy listens. sleeps: it may have no
    replica for a while.
    """

    def __init__(self, deployment: str, router: Router, *, host: str, port: int, sleeps: bool = False) -> None:
        self.sleeps = sleeps
        self._app = app_name_of(deployment)
        self._path = f"{ENGINE_PREFIX}{deployment}/v1"
        self._proxy = FixedEndpoint(f"{origin_of(host, port)}{self._path}")
        self._router = router
        self._handle: Any = None

    async def pick(self, request: EngineRequest | None = None, avoid: Collection[str] = ()) -> Place:
        try:
            async with asyncio.timeout(_PICK_SECONDS):
                handle = await self._resolved()
                while not (replicas := _running(handle)):  # noqa: ASYNC110  # Serve has no event to wait for
                    await asyncio.sleep(_POLL_SECONDS)
        except (TimeoutError, RayServeException) as error:
            raise NoReplica(retry_after=_RETRY_AFTER) from error
        reachable = {name: self._url(*endpoint) for name, endpoint in replicas.items() if endpoint is not None}
        return self._router.seat(request, reachable, avoid) if reachable else self._proxy

    def _url(self, host: str, port: int) -> str:
        return f"http://{host}:{port}{self._path}"

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


def _running(handle: Any) -> dict[str, tuple[str, int] | None]:
    """Where Serve's running replicas are, by name; empty until the router behind the handle has heard of them."""
    router = handle._router._asyncio_router.request_router
    replicas = list(router.curr_replicas.values()) if router is not None else []
    return {replica.replica_id.unique_id: replica.backend_http_endpoint for replica in replicas}
