"""The Form of the Responses API: a chat's answer becomes a response object, or the events that lead to one."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

from serving.errors import EngineFailed, ServingError
from serving.gateway.dialects.dialect import Dialect
from serving.gateway.form import Blocks
from serving.protocol import sse
from serving.protocol.responses.answer import Telling
from serving.protocol.responses.output import Event
from serving.telemetry.record import RequestRecord

Keep = Callable[[dict[str, Any]], Awaitable[bool]]
"""Keeps a finished response; whether it could."""


async def keep_nothing(response: dict[str, Any]) -> bool:
    return False


class AsResponse:
    """head: the response before anything is answered; it may be answered more than once, as when a request spills over.
    dialect: in which a stream that breaks says so. record: of the request, which has failed when its answer cannot be
    translated.
    """

    def __init__(
        self,
        head: dict[str, Any],
        *,
        logprobs: bool,
        stream: bool,
        dialect: Dialect,
        record: RequestRecord,
        keep: Keep = keep_nothing,
    ) -> None:
        self._head = head
        self._logprobs = logprobs
        self._stream = stream
        self._dialect = dialect
        self._record = record
        self._keep = keep

    def of(self, blocks: Blocks) -> Blocks:
        return self._events(blocks) if self._stream else self._whole(blocks)

    def response_of(self, answer: bytes) -> dict[str, Any]:
        """The response that a whole answer is. Raises EngineFailed."""
        telling = Telling(self._head, logprobs=self._logprobs)
        said = json.loads(answer)
        if not isinstance(said, dict):
            raise EngineFailed
        telling.take(said)
        telling.end(_now())
        return telling.response

    async def _whole(self, blocks: Blocks) -> Blocks:
        async with aclosing(blocks):
            async for block in blocks:
                response = self.response_of(block)
                response["store"] = await self._keep(response)
                yield sse.written(response)

    async def _events(self, blocks: Blocks) -> Blocks:
        telling = Telling(self._head, logprobs=self._logprobs)
        first = telling.begin()
        async with aclosing(blocks):
            try:
                async for block in blocks:  # what fails before the first is a status, not an event
                    events, first = first, []
                    for event in sse.events_in(block):
                        payload = _payload_of(event)
                        events += [] if payload is None else telling.take(payload)
                    if events:
                        yield _written(events)
            except ServingError as error:
                if first:
                    raise
                await blocks.aclose()  # it takes this for a client that leaves
                self._record.outcome = error.code
                yield _written(telling.fail(error, self._dialect.error_event(error), _now()))
                return
        events = telling.end(_now())
        telling.response["store"] = await self._keep(telling.response)
        yield _written(events + telling.last())


def _written(events: list[Event]) -> bytes:
    return b"".join([sse.named(event) for event in events])


def _payload_of(event: bytes) -> dict[str, Any] | None:
    try:
        return sse.payload_of(event)
    except (ValueError, RecursionError):
        raise EngineFailed from None


def _now() -> int:
    return int(time.time())
