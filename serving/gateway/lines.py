"""Requests that no connection brings, run through the gateway's own application: lines of a batch, which go behind
everybody who waits, and background responses. Each is a request like any other, from validation to the audit log.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import Any

from starlette.types import ASGIApp, Message

from serving.batches.lines import Answer
from serving.engines.engine import BATCH
from serving.tenants.callers import Caller


class AppLines:
    """app: as create_app made it, so without what stands between it and a network. priority: see EngineRequest."""

    def __init__(self, app: ASGIApp, *, priority: int = BATCH) -> None:
        self._app = app
        self._priority = priority

    async def run(self, owner: Caller, endpoint: str, body: bytes) -> Answer:
        request_id = f"req_{secrets.token_hex(12)}"
        sent: list[Message] = []
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            if unread:
                return unread.pop()
            await asyncio.Event().wait()  # whoever runs it cancels it, and never hangs up
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)

        await self._app(_scope(owner, endpoint, request_id, len(body), self._priority), receive, send)
        head = sent[0]
        text = b"".join(message.get("body", b"") for message in sent[1:])
        is_final = dict(head["headers"]).get(b"x-should-retry") == b"false"
        return Answer(head["status"], request_id, text, _retry_after(head), is_final)


def _scope(owner: Caller, path: str, request_id: str, length: int, priority: int) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"content-length", str(length).encode())],
        "client": None,
        "server": None,
        "state": {"request_id": request_id, "caller": owner, "priority": priority},
    }


def _retry_after(head: Message) -> float | None:
    text = dict(head["headers"]).get(b"retry-after")
    with contextlib.suppress(ValueError):
        return float(text) if text else None
    return None
