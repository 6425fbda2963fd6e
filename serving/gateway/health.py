"""GET /livez, /readyz, /metrics: for the platform, without a key and without a word about content."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from serving.errors import EngineUnavailable
from serving.gateway.dialects.dialect import spoken_in
from serving.gateway.failure import response_of
from serving.gateway.parts import Gateway

router = APIRouter(tags=["health"])


@router.get("/livez")
@router.get("/health")  # vLLM's and SGLang's name, which load generators ask first
async def livez() -> dict[str, str]:
    """This process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(gateway: Gateway, request: Request) -> Response:
    """A completion would succeed: the key store answers and every deployment has a replica that serves."""
    deployments = list(gateway.catalog)
    answers = await asyncio.gather(gateway.keyring.ready(), *(deployment.engine.ready() for deployment in deployments))
    waiting = [
        name for name, ready in zip(["key store", *(d.name for d in deployments)], answers, strict=True) if not ready
    ]
    if waiting:
        error = EngineUnavailable(f"Not ready yet: {', '.join(waiting)}.", retry_after=2.0)
        return response_of(error, spoken_in(request.scope))
    return Response('{"status":"ok"}', media_type="application/json")


@router.get("/metrics")
async def metrics(gateway: Gateway, request: Request) -> Response:
    """Prometheus metrics of all processes of this node; in OpenMetrics, with exemplars, for those who accept it."""
    body, media_type = await asyncio.to_thread(gateway.metrics.scrape, request.headers.get("accept", ""))
    return Response(body, media_type=media_type)
