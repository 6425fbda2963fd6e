"""What a dialect is, and how a request finds its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import ServingError
from serving.protocol import sse
from serving.telemetry.record import RequestRecord


class Dialect(Protocol):
    def speaks(self, path: str) -> bool:
        """Is a request for this path in this dialect? Also for paths that do not exist: their 404 is in it too."""
        ...

    def read(self, body: dict[str, Any], connection: HTTPConnection) -> dict[str, Any]:
        """The body of a request as OpenAI's, before it is checked. Raises InvalidRequest."""
        ...

    def status_of(self, error: ServingError) -> int: ...

    def body_of(self, error: ServingError) -> dict[str, Any]:
        """The body of a failed answer. Quotes nothing of the request."""
        ...

    def headers_of(self, record: RequestRecord, asked: Headers) -> dict[str, str]:
        """What every answer carries. asked: the request's headers."""
        ...

    def broken(self, error: ServingError) -> bytes | None:
        """The last event of a stream that breaks. None: the connection is to be dropped instead."""
        ...

    def error_event(self, error: ServingError) -> dict[str, Any]:
        """What the `error` event of a response that breaks says (azure-wire-format, 1.7)."""
        ...


class Envelope:
    """What dialects have in common."""

    def read(self, body: dict[str, Any], connection: HTTPConnection) -> dict[str, Any]:
        return body

    def status_of(self, error: ServingError) -> int:
        return error.status

    def body_of(self, error: ServingError) -> dict[str, Any]:
        """OpenAI's envelope, all four fields always (azure-wire-format, part 5); or the error's own, where Azure's
        clients look for another (part 1.3).
        """
        return error.azure_body() or {
            "error": {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}
        }

    def broken(self, error: ServingError) -> bytes | None:
        return sse.encode(self.body_of(error))

    def error_event(self, error: ServingError) -> dict[str, Any]:
        return {"code": error.code, "message": error.message, "param": error.param}


class Spoken:
    """Plain ASGI: notes the dialect of each request, and collapses slashes that clients double.

    The JavaScript client of Azure OpenAI joins `https://host/` and `/openai/...` as they are (azure-wire-format, 4.2).
    """

    def __init__(self, app: ASGIApp, *, dialects: Sequence[Dialect]) -> None:
        self._app = app
        self._dialects = dialects

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if "//" in path:
                scope["path"] = path = "/" + "/".join(part for part in path.split("/") if part)
            scope["state"]["dialect"] = next(dialect for dialect in self._dialects if dialect.speaks(path))
        await self._app(scope, receive, send)


def spoken_in(scope: Scope) -> Dialect:
    """The dialect that the request is in."""
    dialect: Dialect = scope["state"]["dialect"]
    return dialect
