"""GET /livez, /readyz: for the platform, without a key and without a word about content. /metrics, which names tenants,
for those who run the server; scrapers without a key have a port of their own (telemetry/listener.py).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Collection, Sequence

from fastapi import APIRouter, Request, Response

from serving.errors import EngineUnavailable
from serving.gateway.caller import SignedIn, identify
from serving.gateway.dialects.dialect import spoken_in
from serving.gateway.failure import response_of
from serving.gateway.parts import Parts
from serving.gateway.shared import Shared
from serving.telemetry.listener import OPENMETRICS, format_of
from serving.tenants.callers import Caller, RoleMissing
from serving.tenants.stores import StoreUnavailable

_READINESS_SECONDS = 0.5
_KEYS = "key store"
_ALIVE = b'{"status":"ok"}'


def router(parts: Parts) -> APIRouter:
    """The routes. What they tell is worked out once for all who ask at a time: asking is open to everybody."""
    waiting = Shared(lambda: _waiting(parts), seconds=_READINESS_SECONDS)
    scrape = functools.partial(asyncio.to_thread, parts.metrics.scrape)
    pages = {
        wanted: Shared(functools.partial(scrape, wanted), seconds=parts.metrics_interval)
        for wanted in ("", OPENMETRICS)
    }
    routes = APIRouter(tags=["health"])

    @routes.get("/livez")
    @routes.get("/health")  # vLLM's and SGLang's name, which load generators ask first
    async def livez() -> dict[str, str]:
        """This process answers."""
        return {"status": "ok"}

    @routes.get("/readyz")
    async def readyz(request: Request) -> Response:
        """A completion would succeed: the key store answers and every deployment has a replica that serves. With a key,
        it names what is waited for, of what the key may call.
        """
        if not (names := await waiting.read()):
            return Response(_ALIVE, media_type="application/json")
        known = await _known_to_caller(request, parts)
        told = ", ".join(name for name in names if name in known)
        told = f"Not ready yet: {told}." if told else "Not ready yet."
        return response_of(EngineUnavailable(told, retry_after=2.0), spoken_in(request.scope))

    @routes.get("/metrics")
    async def metrics(caller: SignedIn, request: Request) -> Response:
        """Prometheus metrics of all processes of this node; in OpenMetrics, with exemplars, for those who accept it."""
        if not _sees_all_tenants(caller):
            raise RoleMissing("Metrics tell of all tenants: this needs the role operator or auditor of the system.")
        body, media_type = await pages[format_of(request.headers.get("accept", ""))].read()
        return Response(body, media_type=media_type)

    return routes


async def _waiting(parts: Parts) -> Sequence[str]:
    """What is not ready, by name."""
    deployments = list(parts.catalog)
    answers = await asyncio.gather(parts.keyring.ready(), *(deployment.engine.ready() for deployment in deployments))
    return [name for name, ready in zip([_KEYS, *(d.name for d in deployments)], answers, strict=True) if not ready]


async def _known_to_caller(request: Request, parts: Parts) -> Collection[str]:
    """The names that the request's key may see. Without a key it is a probe, which sees none. Raises InvalidKey."""
    if "authorization" not in request.headers and "api-key" not in request.headers:
        return ()
    try:
        caller = await identify(request)
    except StoreUnavailable:
        return (_KEYS,)
    return {_KEYS, *(deployment.name for deployment in parts.catalog.open_to(caller))}


def _sees_all_tenants(caller: Caller) -> bool:
    return caller.is_system and bool(caller.roles & {"operator", "auditor"})
