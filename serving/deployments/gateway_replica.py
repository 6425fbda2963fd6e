"""The gateway as a Ray Serve deployment."""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp

from serving import hardening


class GatewayReplica:
    """Holds the gateway's HTTP application, built inside the replica: applications cannot be pickled."""

    def __init__(self, build: Callable[[], ASGIApp]) -> None:
        hardening.keep_private()  # on Kubernetes nobody has done so before
        hardening.keep_memory_private()
        self._build = build

    async def __serve_build_asgi_app__(self) -> ASGIApp:
        return self._build()
