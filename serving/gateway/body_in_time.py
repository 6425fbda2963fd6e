"""Plain ASGI middleware against bodies that come a byte at a time: each holds a place for as long as it likes."""

from __future__ import annotations

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import BodyTooSlow

SLOWEST = 16 * 1024
"""Bytes a second that a sender has to manage: a large file has its time."""


class BodyInTime:
    """Refuses with 408 a body that is not whole after `grace` seconds and one more for each SLOWEST bytes of it."""

    def __init__(self, app: ASGIApp, *, grace: float) -> None:
        self._app = app
        self._grace = grace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, size, whole = time.monotonic(), 0, False

        async def receive_in_time() -> Message:
            nonlocal size, whole
            if whole:
                return await receive()
            left = began + self._grace + size / SLOWEST - time.monotonic()
            try:
                async with asyncio.timeout(left):
                    message = await receive()
            except TimeoutError:
                raise BodyTooSlow from None
            size += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            return message

        await self._app(scope, receive_in_time, send)
