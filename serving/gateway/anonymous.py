"""Plain ASGI middleware for requests of nobody in particular: without a key, or with one that is none."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import TooManyAnonymous
from serving.gateway.address_limiter import AddressLimiter
from serving.gateway.caller import client_address
from serving.gateway.dialects.dialect import spoken_in
from serving.gateway.failure import response_of

PROBES = frozenset({"/livez", "/readyz", "/health"})
LONGEST_HOLD = 2.0
"""Seconds for which an answer is held back."""
MOST_HELD = 1024
"""Answers at a time; beyond, who would have to wait is refused at once."""


class AnonymousLimits:
    """Answers to requests that nobody is known for take their turn, by address; those of known callers never wait.

    Whether a key is good is found out first, so a good one passes whatever others do behind the same address. What
    fails is held back, for longer with each that fails, up to LONGEST_HOLD seconds, and then refused (429, with the
    whole delay in Retry-After). Held answers cost their sender a connection and nobody else anything; without holding
    them, 40 connections that try keys in a loop would have the processor.

    Three kinds apart, so that none stands in another's way: failed keys and tokens; all else, such as documents and
    paths that do not exist; and the platform's probes, which are held for a moment and never refused.
    """

    def __init__(self, app: ASGIApp, *, proxies: int) -> None:
        self._app = app
        self._proxies = proxies
        self._failures = AddressLimiter(every=0.5, burst=20)
        self._others = AddressLimiter(every=0.02, burst=200)
        self._probes = AddressLimiter(every=0.02, burst=200, longest=1.0)
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "caller" in scope["state"]:  # of a batch's line: its caller is known
            return await self._app(scope, receive, send)
        record, refused = scope["state"]["record"], False

        async def send_in_turn(message: Message) -> None:
            nonlocal refused
            if refused:
                return None
            if message["type"] == "http.response.start" and "identify" not in record.stages:
                delay = self._limiter(scope, message["status"]).take(self._address(scope))
                if delay and not await self._had_its_turn(delay) and scope["path"] not in PROBES:
                    refused, record.outcome = True, TooManyAnonymous.code
                    error = TooManyAnonymous(retry_after=delay)
                    return await response_of(error, spoken_in(scope))(scope, receive, send)
            await send(message)

        await self._app(scope, receive, send_in_turn)

    def _limiter(self, scope: Scope, status: int) -> AddressLimiter:
        if scope["path"] in PROBES:
            return self._probes
        asked = Headers(scope=scope)
        tried = "authorization" in asked or "api-key" in asked
        return self._failures if tried and status in (401, 403) else self._others

    def _address(self, scope: Scope) -> str:
        peer = scope["client"][0] if scope.get("client") else ""
        return client_address(Request(scope), self._proxies) or peer

    async def _had_its_turn(self, delay: float) -> bool:
        if self._held >= MOST_HELD:
            return False
        self._held += 1
        try:
            await asyncio.sleep(min(delay, LONGEST_HOLD))
        finally:
            self._held -= 1
        return delay <= LONGEST_HOLD
