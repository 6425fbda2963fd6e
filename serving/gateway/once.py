"""Requests that are answered once, however often they are sent: POST with an Idempotency-Key.

The first runs. A repeat of it meanwhile gets 409, later the same answer, byte for byte and free of charge. What was not
answered to its end is not kept, whoever broke it off, so its repeat runs, and is charged, as any request
(azure-wire-format, part 5; https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from serving.errors import InvalidRequest
from serving.gateway.answers import Answer, Attempt
from serving.gateway.caller import identify
from serving.gateway.parts import parts_of
from serving.telemetry.record import RequestRecord

HEADER = "idempotency-key"
REPLAYED = (b"idempotency-replayed", b"true")
_KEY = re.compile(r"[\x21-\x7e]{1,255}")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class OnceRoute(APIRoute):
    """The class of routes whose POSTs may have an Idempotency-Key. Without one they are as any other."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        if "POST" not in self.methods:
            return handle

        async def handle_once(request: Request) -> Response:
            return await (_once(request, handle) if HEADER in request.headers else handle(request))

        return handle_once


async def _once(request: Request, handle: Handler) -> Response:
    answers, record = parts_of(request).answers, request.state.record
    caller = request.scope["state"]["caller"] = await identify(request)
    caller.require("inference")
    attempt = answers.attempt(caller, request.scope["path"], _key_of(request), await request.body(), record.request_id)
    answer = await attempt.begin()  # 409 StillRunning, KeyReused; 503
    if answer is not None:
        answer.tell(record)
        return Replayed(answer)
    try:
        response = await handle(request)
    except BaseException:
        attempt.release()
        raise
    return Remembered(response, attempt, record, largest=answers.largest)


def _key_of(request: Request) -> str:
    keys = request.headers.getlist(HEADER)
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise InvalidRequest("Idempotency-Key must be one, of 1 to 255 visible ASCII characters.", param=HEADER)
    return keys[0]


class Replayed(Response):
    """An answer that was given before."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.body, answer.status)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
        self.raw_headers = [*headers, REPLAYED]


class Remembered(Response):
    """An answer that is kept once it has been given to its end: before its last piece, so that whoever has that finds
    it. largest: bytes; more is not kept.
    """

    def __init__(self, response: Response, attempt: Attempt, record: RequestRecord, *, largest: int) -> None:
        super().__init__()
        self._response = response
        self._attempt = attempt
        self._record = record
        self._largest = largest
        self._start: Message = {}
        self._pieces: list[bytes] = []
        self._size = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._start = dict(message)
            elif self._is_whole_with(message):
                await self._attempt.keep(self._answer())
            await send(message)

        try:
            await self._response(scope, receive, send_and_note)
        finally:
            self._attempt.release()

    def _is_whole_with(self, message: Message) -> bool:
        piece = message.get("body", b"")
        self._size += len(piece)
        if self._size > self._largest:
            self._pieces.clear()
            return False
        self._pieces.append(piece)
        # A stream that broke has a last piece too: the error.
        return not message.get("more_body") and self._record.outcome == "ok" and self._start["status"] < 300

    def _answer(self) -> Answer:
        return Answer.of(self._start["status"], self._start["headers"], self._record, b"".join(self._pieces))
