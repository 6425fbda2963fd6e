"""Plain ASGI middleware, outermost first: UntilClientLeaves, RequestId, Spoken (dialects/), Recorded, HeadLimit
(head_limit.py), BodyLimit.

BaseHTTPMiddleware would buffer streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import BodyTooLarge, EncodedBody, ServingError, TooManyRequests
from serving.gateway.books import Books
from serving.gateway.console.routes import ASSETS
from serving.gateway.dialects.dialect import spoken_in
from serving.gateway.failure import response_of
from serving.protocol import bounds
from serving.telemetry.logs import RequestLog
from serving.telemetry.metrics import Metrics
from serving.telemetry.record import RequestRecord
from serving.telemetry.traces import Traces

_OUR_ID = re.compile(r"req_[0-9a-f]{24}")
_SMALL = 64 * 2**10
_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
QUIET_ROUTES = frozenset({"/livez", "/health", "/readyz", "/metrics", ASSETS})
"""Counted but neither logged nor traced: probes and the console's files would drown the requests."""


class UntilClientLeaves:
    """Cancels a request whose client has left, so that its engine stops. Ray Serve's replicas do this themselves;
    this is for the gateway in a plain process, where only streams would notice, and late.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        messages: asyncio.Queue[Message] = asyncio.Queue(maxsize=8)

        async def pass_on() -> None:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                await messages.put(message)

        answer: asyncio.Task[None] = asyncio.ensure_future(self._app(scope, messages.get, send))
        client = asyncio.create_task(pass_on())
        try:
            await asyncio.wait({answer, client}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            client.cancel()
            if not answer.done():
                answer.cancel()
        await asyncio.wait({answer})
        if not answer.cancelled():
            answer.result()


class RequestId:
    """Gives each request an id of our own; a client's x-request-id is neither trusted nor forwarded.

    Around Ray Serve's middleware, not inside it: Serve takes over whatever x-request-id a client sends and adds it to
    the answer. Ours replaces it on the way in, so that Serve logs it, and is set exactly once on the way out.
    """

    def __init__(self, app: ASGIApp, *, kept_under: str | None = None) -> None:
        self._app = app
        self._kept_under = kept_under
        """Below this path an id of our shape is kept: there the gateway asks an engine."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = MutableHeaders(scope=scope)
        given = headers.get("x-request-id", "")
        kept = self._kept_under and scope["path"].startswith(self._kept_under) and _OUR_ID.fullmatch(given)
        request_id = given if kept else f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id
        headers["x-request-id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


class Recorded:
    """Keeps what is known about each request and writes it at its end, whatever that is: metrics, books, spans,
    a log line.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, traces: Traces, log: RequestLog, books: Books) -> None:
        self._app = app
        self._metrics = metrics
        self._traces = traces
        self._log = log
        self._books = books

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        record = RequestRecord(request_id=scope["state"]["request_id"], method=method)
        if scope["path"] not in QUIET_ROUTES:
            record.trace = self._traces.begin(Headers(scope=scope).getlist("traceparent"))
        scope["state"]["record"] = record
        responding, dialect = False, spoken_in(scope)

        async def send_and_note(message: Message) -> None:
            nonlocal responding
            if message["type"] == "http.response.start":
                responding = True
                record.status = message["status"]
                MutableHeaders(scope=message).update(dialect.headers_of(record, Headers(scope=scope)))
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        except asyncio.CancelledError:
            record.outcome, record.status = "client_left", record.status if responding else 499
            raise
        except ClientDisconnect:  # in the middle of its body
            record.outcome, record.status = "client_left", 499
        except Exception as error:
            record.outcome = ServingError.code
            self._log.broke(record, error)
            if not responding:
                await response_of(ServingError(), dialect)(scope, receive, send_and_note)
        finally:
            # Plain calls only: this may run in a cancelled task.
            self._finish(record, scope)

    def _finish(self, record: RequestRecord, scope: Scope) -> None:
        record.duration = record.elapsed()
        route = scope.get("route")
        record.route = getattr(route, "path_format", "other")
        if record.reckoning is None:
            self._write(record)
        else:  # what it cost is still being asked of the engine
            record.reckoning.add_done_callback(lambda _: self._write(record))

    def _write(self, record: RequestRecord) -> None:
        """The books first. What fails costs itself only."""
        steps = [self._books.enter, self._metrics.finished, record.trace.end]
        if record.route not in QUIET_ROUTES:
            steps.append(self._log.finished)
        for step in steps:
            try:
                step(record)
            except Exception as error:
                with contextlib.suppress(OSError):  # a full disk
                    self._log.broke(record, error)


class BodyLimit:
    """Refuses a body above `limit` bytes with 413: by its Content-Length before reading, else while reading. One that
    is compressed with 415: its size cannot be told before. With 429 one above 64 KiB while many of those are under way:
    each is in memory until it is answered.

    The limit is not of a file: those are streamed to where they are kept, and batches/files.py has a limit for them.
    """

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._held = 0
        """Bytes of large bodies of requests under way."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        if headers.get(b"content-encoding", b"identity").strip().lower() not in (b"identity", b""):
            scope["state"]["record"].outcome = EncodedBody.code
            response = response_of(EncodedBody(), spoken_in(scope))
            response.headers["accept-encoding"] = "identity"  # RFC 9110, 15.5.16
            return await response(scope, receive, send)
        if scope["method"] == "POST" and scope["path"].endswith("/files"):
            return await self._app(scope, receive, send)
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._limit:
            scope["state"]["record"].outcome = BodyTooLarge.code
            return await response_of(self._error(), spoken_in(scope))(scope, receive, send)
        size = held = 0

        async def receive_within_limit() -> Message:
            nonlocal size, held
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._limit:
                raise self._error()
            if size > _SMALL:
                self._held += size - held
                held = size
                if self._held > bounds.BODIES * self._limit:
                    raise TooManyRequests("Too many large requests are here. Please retry shortly.", retry_after=1.0)
            return message

        try:
            await self._app(scope, receive_within_limit, send)
        finally:
            self._held -= held

    def _error(self) -> BodyTooLarge:
        return BodyTooLarge(f"The request body is larger than {self._limit} bytes.")
