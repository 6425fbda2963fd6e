"""How those behind HAProxy know that a request has come through it: by a header that it sets, in place of whatever a
client sends. Their own ports take nothing else: they are ways around TLS, around the proxy's limits, and around what it
says of where a client is.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import NotAllowed, ServingError, UnknownRoute

PROOF_HEADER = "x-clinserve-proxy"
PROOF = "CLINSERVE_PROXY_PROOF"
"""The environment's, where one machine has all; elsewhere it is worked out of the Ray cluster's token."""
_HEADER = PROOF_HEADER.encode()
_RAYS_OWN = "/-/"
_HEALTH = "/-/healthz"


class NoProof(Exception):
    """This process cannot know what its proxy says."""


def proof(environ: Mapping[str, str] = os.environ) -> str:
    """What the proxy of this cluster says. start.sh works it out in the same way. Raises NoProof."""
    if given := environ.get(PROOF):
        return given
    token = environ.get("RAY_AUTH_TOKEN", "")
    if not token:
        kept = environ.get("RAY_AUTH_TOKEN_PATH") or Path(environ.get("HOME", "/")) / ".ray" / "auth_token"
        try:
            token = Path(kept).read_text().strip()
        except OSError:
            raise NoProof(f"neither {PROOF} nor Ray's token is there: set RAY_AUTH_MODE=token") from None
    return hashlib.sha256(f"clinserve-proxy:{token}".encode()).hexdigest()


def proof_headers(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What gateways say to engines. Nothing where nobody asks for it: outside of a Ray cluster."""
    try:
        return {PROOF_HEADER: proof(environ)}
    except NoProof:
        return {}


class OnlyThroughProxy:
    """Lets in what comes through HAProxy, from gateways to engines, and HAProxy's own health check; nothing else.

    Around everything in a replica, Ray Serve's own paths among it: those name the deployments, and HAProxy, which
    refuses them, does not decode `/%2d/routes`.
    """

    def __init__(self, app: ASGIApp, *, proof: str) -> None:
        if not proof:
            raise ValueError("the proof is empty: nothing would be refused")
        self._app = app
        self._proof = proof.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        given = [value for name, value in scope["headers"] if name == _HEADER]
        proven = len(given) == 1 and hmac.compare_digest(given[0], self._proof)
        if scope["path"].startswith(_RAYS_OWN):
            if scope["path"] != _HEALTH or proven:
                return await _refuse(scope, send, UnknownRoute())
        elif not proven:
            return await _refuse(scope, send, NotAllowed("Requests come in by the server's own port only."))
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name != _HEADER]
        await self._app(scope, receive, send)


async def _refuse(scope: Scope, send: Send, error: ServingError) -> None:
    if scope["type"] == "websocket":
        return await send({"type": "websocket.close", "code": 1008})
    told = {"message": error.message, "type": error.kind, "param": None, "code": error.code}
    body = json.dumps({"error": told}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
