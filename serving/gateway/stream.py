"""What may happen to an answer on its way out: settled() pays, started() waits for its first bytes, EventStream and
whole() send it. Bytes are passed on as they came. Here only events with a usage are read; for the audit all are
(digests.py).

Four facts hold this file together (measured, Starlette 1.10):
1. A generator that was never started does not run its `finally`: nothing is awaited between settled() and started().
2. A client that leaves while we are blocked in `send` leaves clean-up to the garbage collector but for `aclosing`.
3. An `await` in a `finally` inside a cancelled scope does not complete: settling is a plain call.
4. Nested async generators each need their own `aclosing`.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from pydantic_core import from_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.errors import EngineFailed, ServingError
from serving.gateway.dialects.dialect import Dialect
from serving.gateway.digests import Digests, choices_in, text_in
from serving.gateway.form import Blocks
from serving.gateway.settlement import Settlement
from serving.protocol import sse
from serving.protocol.usage import ReportedUsage, usage_in
from serving.telemetry.record import RequestRecord

_has_usage = re.compile(rb'"usage"\s*:\s*\{').search  # not of null, which some engines put into every event
_BYTES_A_TOKEN = 4  # of English; rather too few than too many


async def settled(blocks: Blocks, settlement: Settlement, *, hide_usage: bool) -> Blocks:
    """Pass the answer on and, however it ends, settle it and fill in the record.

    hide_usage: the client of this stream did not ask for the usage event, so it is taken out.
    """
    record = settlement.record
    meter = _Meter(record, settlement.digests, hide_usage=hide_usage)
    record.outcome = ServingError.code  # until it ends in one of the ways below
    try:
        async with aclosing(blocks):
            async for block in blocks:
                if block := meter.read(block):
                    yield block
        record.outcome = "ok"
    except ServingError as error:
        record.outcome = error.code
        if error.free and not meter.seen:
            meter.spent_nothing()
        raise
    except (GeneratorExit, asyncio.CancelledError):
        record.outcome = "ok" if meter.is_whole else "client_left"
        raise
    finally:
        settlement.end(meter.believed(), seen=meter.seen)


class _Meter:
    """Reads times and tokens off an answer as it passes. On the path of every token: two searches in 250 bytes.

    reported: what the engine said; None until it does. seen: tokens so far, as far as that can be told without it.
    is_whole: a stream's `[DONE]` has passed, after which clients hang up.
    """

    def __init__(self, record: RequestRecord, digests: Digests, *, hide_usage: bool) -> None:
        self._record = record
        self._digests = digests
        self._hide_usage = hide_usage
        self._events = -1 if record.operation == "chat" else 0  # a chat's first event only names the role
        self._size = 0
        self.reported: ReportedUsage | None = None
        self.is_whole = False

    @property
    def seen(self) -> int:
        """An event a token; but other endpoints put many into one, and an answer in one piece has none."""
        return max(0, self._events, math.ceil(max(self._size, self._digests.size) / _BYTES_A_TOKEN))

    def spent_nothing(self) -> None:
        self.reported = ReportedUsage(0, 0, 0)

    def believed(self) -> ReportedUsage | None:
        """What the engine said; but for a text that is there, 0 tokens are none said."""
        reported = self.reported
        if reported is not None and reported.completion == 0 and max(self._size, self._digests.size):
            return replace(reported, completion=None, unusable=reported.unusable | {"completion"})
        return reported

    def read(self, block: bytes) -> bytes:
        record = self._record
        if not record.stream:
            record.passed("open")
            answer = _answer_in(block)
            self._size = sum(len(text_in(choice).encode(errors="surrogatepass")) for choice in choices_in(answer))
            self._digests.whole(answer)
            self._take(answer.get("usage"))
            return block
        if record.first_token is None:
            record.passed("open")
            record.first_token = record.stages["open"]
        self._events += block.count(sse.END)
        self.is_whole = block.endswith(sse.DONE)
        self._digests.events(block)
        # Quotes inside the model's text are escaped, so this can only be the envelope's own key.
        return block if self.reported is None and not _has_usage(block) else self._without_usage(block)

    def _without_usage(self, block: bytes) -> bytes:
        """From the first usage on, each event is read: text may follow, which that one does not count."""
        kept = []
        for event in sse.events_in(block):
            payload = _payload_of(event)
            if isinstance(payload.get("usage"), dict):
                self._take(payload["usage"])
                if self._hide_usage and not payload.get("choices"):
                    continue
            elif self.reported is not None and any(map(text_in, choices_in(payload))):
                self.reported = self.reported.with_one_more()
            kept.append(event)
        return b"".join(kept)

    def _take(self, usage: object) -> None:
        reported = usage_in(usage)
        if reported is not None and reported.prompt == 0:  # of those that count nothing
            reported = replace(reported, prompt=None, unusable=reported.unusable | {"prompt"})
        if reported is not None:
            self.reported = reported if self.reported is None else reported.after(self.reported)


def _payload_of(event: bytes) -> dict[str, Any]:
    """Empty for what is none: it is passed on as it is."""
    try:
        return sse.payload_of(event) or {}
    except (ValueError, RecursionError):
        return {}


def _answer_in(block: bytes) -> dict[str, Any]:
    try:
        value = from_json(block)  # 2,000 vectors are 15 MB: three times as fast as json.loads, and the loop waits
    except ValueError:
        try:
            value = json.loads(block)  # half surrogates, which a model may write
        except (ValueError, RecursionError):
            raise EngineFailed from None
    if not isinstance(value, dict):
        raise EngineFailed
    return value


async def started(blocks: Blocks) -> bytes:
    """Wait for the first bytes, so that a failure before them can still be an HTTP status."""
    first = await anext(blocks, None)
    if first is None:
        raise EngineFailed
    return first


class EventStream(Response):
    """An answer as server-sent events. A failure in the middle becomes an error event, then the stream ends; in a
    dialect without such events the connection is dropped.

    No `[DONE]` after an error: it is what tells a client that the answer is complete.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        first: bytes,
        rest: Blocks,
        *,
        dialect: Dialect,
        record: RequestRecord,
        on_error: Callable[[BaseException], None],
    ) -> None:
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._first = first
        self._rest = rest
        self._dialect = dialect
        self._record = record
        self._on_error = on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._rest) as rest:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": self._first, "more_body": True})
            try:
                async for block in rest:
                    await send({"type": "http.response.body", "body": block, "more_body": True})
            except ServingError as error:
                return await self._break_with(error, send)
            except Exception as error:
                self._on_error(error)
                return await self._break_with(ServingError(), send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _break_with(self, error: ServingError, send: Send) -> None:
        # It may have come from a translation behind settled(), which saw its reader leave then.
        self._record.outcome = error.code
        last = self._dialect.broken(error)
        if last is not None:  # else an answer without its end, which makes the server drop the connection
            await send({"type": "http.response.body", "body": last, "more_body": False})


async def whole(blocks: Blocks) -> Response:
    """The answer in one piece. Whoever runs the application cancels it when the client leaves."""
    async with aclosing(blocks):
        return Response(b"".join([block async for block in blocks]), media_type="application/json")
