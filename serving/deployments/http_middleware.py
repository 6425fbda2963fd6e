"""The HTTP middleware that Ray Serve puts around its own, in every replica; named in environment.py."""

from __future__ import annotations

from starlette.middleware import Middleware

from serving.deployments.loopback import keep_calls_on_loopback
from serving.deployments.naming import ENGINE_PREFIX
from serving.deployments.proxy.proof import OnlyThroughProxy, proof
from serving.gateway.middleware import RequestId


def middlewares() -> list[Middleware]:
    """Called by Serve when a replica opens its port; the last is the outermost. Raises NoProof."""
    keep_calls_on_loopback()
    return [Middleware(RequestId, kept_under=ENGINE_PREFIX), Middleware(OnlyThroughProxy, proof=proof())]
