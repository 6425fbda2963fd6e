"""The bounds of a request's head: path, query, headers. Nothing of it has been looked at by then."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import HeadersTooLarge, PathTooLong, ServingError
from serving.gateway.dialects.dialect import spoken_in
from serving.gateway.failure import response_of
from serving.protocol import bounds


class HeadLimit:
    """Plain ASGI. Refuses with 414 and 431 what would take long to take apart: 100,000 parameters of a query do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (error := _refusal_of(scope)):
            scope["state"]["record"].outcome = error.code
            return await response_of(error, spoken_in(scope))(scope, receive, send)
        await self._app(scope, receive, send)


def _refusal_of(scope: Scope) -> ServingError | None:
    if len(scope["headers"]) > bounds.HEADERS:
        return HeadersTooLarge(f"The request has more than {bounds.HEADERS} headers.")
    if sum(len(name) + len(value) for name, value in scope["headers"]) > bounds.HEADER_BYTES:
        return HeadersTooLarge(f"The request's headers are larger than {bounds.HEADER_BYTES} bytes.")
    query = scope["query_string"]
    if len(scope["path"]) > bounds.PATH_BYTES or len(query) > bounds.QUERY_BYTES:
        return PathTooLong(
            f"A path has at most {bounds.PATH_BYTES} bytes, its query at most {bounds.QUERY_BYTES} more."
        )
    if query.count(b"&") >= bounds.QUERY_PARAMETERS:
        return PathTooLong(f"A query has at most {bounds.QUERY_PARAMETERS} parameters.")
    return None
