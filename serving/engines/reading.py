"""An endpoint's answer as it comes, and what its failures mean. With http.py alone imports aiohttp."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator

import aiohttp

from serving.engines.refusals import RETRY_AFTER, detail_of, translated
from serving.errors import EngineFailed, EngineTimeout, EngineUnavailable, ServingError
from serving.protocol import sse

_REFUSAL_SECONDS = 3.0
_ERROR_EVENT = b'data: {"error"'
_ERROR_BODY = re.compile(rb'\s*\{\s*"error"\s*:\s*[^n]').match  # not of null


class NotTaken(EngineUnavailable):
    """Before any byte of an answer: another replica may be asked. reached: this one was, and said so or broke. broke:
    its connection did, with the request in flight; it may have died of it.
    """

    def __init__(self, *, reached: bool = True, broke: bool = False) -> None:
        super().__init__()
        self.reached = reached
        self.broke = broke


class AnswerBroke(EngineFailed):
    """The connection did, in the middle of an answer: its replica may have died of the request."""


async def events(
    response: aiohttp.ClientResponse,
    cutter: sse.EventCutter | sse.ForeignEventCutter,
    *,
    idle_timeout: float,
    ours: bool,
) -> AsyncGenerator[bytes, None]:
    """Whole events as they come. The stream ends with [DONE], whatever its connection does then; anything else is a
    failure, not an end.

    On the path of every token. Until the first event there is no timeout here; then it is seconds between events.
    """
    read, started, quiet_since = response.content.readany, False, 0.0
    try:
        while True:
            data = await read()
            block = cutter.feed(data) if data else cutter.end()
            if not block:
                if not data:
                    break
                if started:
                    quiet_since = _still_patient(quiet_since, idle_timeout)
                continue
            # Quotes inside the model's text are escaped, so this can only be the envelope's own key.
            if _ERROR_EVENT in block:
                yield_before, _, event = block.partition(_ERROR_EVENT)
                if yield_before:
                    yield yield_before
                if started or yield_before:
                    raise EngineFailed
                raise _failure_in(_ERROR_EVENT + event, ours=ours)
            if not started:
                started = True
                _watch(response, idle_timeout)
            quiet_since = 0.0
            yield block
            if block.endswith(sse.DONE):
                return
            if cutter.broken:
                break
    except TimeoutError as error:
        raise (EngineFailed() if started else EngineTimeout(retry_after=RETRY_AFTER)) from error
    except (aiohttp.ClientError, OSError) as error:
        raise (AnswerBroke() if started else _nothing_came(response)) from error
    except ValueError as error:
        raise (EngineFailed() if started else _nothing_came(response)) from error
    raise EngineFailed() if started else _nothing_came(response)


async def body(response: aiohttp.ClientResponse, *, ours: bool) -> AsyncGenerator[bytes, None]:
    """An answer in one piece."""
    try:
        answer = await response.read()
    except (aiohttp.ClientError, OSError) as error:
        # Nothing has reached the client: it may repeat, so this is "unavailable", not "failed".
        raise _nothing_came(response) from error
    if not ours and _ERROR_BODY(answer):  # some proxies say 200 to everything
        raise _failure_in(b"data: " + answer, ours=ours)
    yield answer


async def refusal(response: aiohttp.ClientResponse, *, ours: bool) -> ServingError:
    """What an error status means to a caller."""
    async with response:
        try:
            async with asyncio.timeout(_REFUSAL_SECONDS):
                detail = detail_of(json.loads(await response.read()))
        except (TimeoutError, ValueError, aiohttp.ClientError, OSError):
            detail = {}
    return translated(response.status, detail, response.headers, ours=ours)


def _failure_in(event: bytes, *, ours: bool) -> ServingError:
    """Of an error with the status 200: it may have a status inside."""
    try:
        detail = detail_of(sse.payload_of(next(sse.events_in(event))))
    except (ValueError, StopIteration):
        detail = {}
    for name in ("code", "status"):
        status = detail.get(name)
        if str(status).isdecimal() and 400 <= int(str(status)) < 600:
            return translated(int(str(status)), detail, ours=ours)
    return translated(400 if detail.get("code") == "content_filter" else 500, detail, ours=ours)


def _nothing_came(response: aiohttp.ClientResponse) -> EngineUnavailable:
    """A failure before the first event; after a part of one no other replica is asked."""
    return EngineUnavailable(retry_after=RETRY_AFTER) if response.content.total_bytes else NotTaken(broke=True)


def _still_patient(quiet_since: float, seconds: float) -> float:
    """Since when there were bytes but no event: keep-alive comments keep aiohttp's own timer from going off."""
    now = asyncio.get_running_loop().time()
    if quiet_since and now - quiet_since > seconds:
        raise TimeoutError
    return quiet_since or now


def _watch(response: aiohttp.ClientResponse, silence: float) -> None:
    """From now on a silence of so many seconds breaks the stream."""
    if response.connection is not None and response.connection.protocol is not None:
        response.connection.protocol.read_timeout = silence
        response.connection.protocol.start_timeout()  # also of the silence that has begun
