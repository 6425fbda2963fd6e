"""An engine behind HTTP: a vLLM replica under Ray Serve, a bare vLLM, a NIM. Of the engines alone imports aiohttp.

aiohttp rather than httpx: httpx's pool costs grow with the square of concurrency (https://github.com/encode/httpx/issues/3215).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Protocol

import aiohttp

from serving.engines.engine import EngineRequest, Tally
from serving.errors import (
    ContextTooLong,
    EngineFailed,
    EngineTimeout,
    EngineUnavailable,
    InvalidRequest,
    ServingError,
)
from serving.protocol import sse

_PATHS = {"chat": "/chat/completions", "completions": "/completions"}
_READY_SECONDS = 3.0
_RECKON_SECONDS = 4.0
_UNRECKONED = 4096
_RETRY_AFTER = 2.0
# vLLM's two wordings; the number is the only thing taken over from them.
_TOO_LONG = re.compile(r"maximum context length (?:is|of) (\d+)|max_model_len=\D*(\d+)", re.IGNORECASE)
_PARAM = re.compile(r"(?:body\.)?([a-z_]{1,40})")
_ERROR_EVENT = b'data: {"error"'


class Endpoints(Protocol):
    """Where the replicas of one deployment are."""

    async def pick(self) -> str:
        """Base URL of a replica, up to and including /v1. Raises EngineUnavailable when there is none in time."""
        ...


class FixedEndpoint:
    """One address, set in the configuration."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    async def pick(self) -> str:
        return self._url


class HttpEngine:
    """An Engine that forwards to an OpenAI-compatible endpoint and hands its bytes on.

    model: the name that the endpoint knows. headers: sent with every request (the internal secret, a key).
    ours: the endpoint is one of our vLLM replicas, so each request carries its tenant's cache_salt, and the replica
    tells what a request has cost (deployments/tallies.py). ready_path: answers 200 when the endpoint can serve; vLLM's
    /v1/models does so even when its engine is dead. Times in seconds.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        model: str,
        headers: Mapping[str, str] | None = None,
        ours: bool = False,
        ready_path: str = "/v1/models",
        connect_timeout: float = 3.0,
        first_token_timeout: float = 120.0,
        idle_timeout: float = 60.0,
        answer_timeout: float = 600.0,
    ) -> None:
        self._endpoints = endpoints
        self._model = model
        self._headers = dict(headers or {})
        self._ours = ours
        self._ready_path = ready_path
        self._connect_timeout = connect_timeout
        self._first_token_timeout = first_token_timeout
        self._idle_timeout = idle_timeout
        self._answer_timeout = answer_timeout
        self._session: aiohttp.ClientSession | None = None
        self._unfinished: OrderedDict[str, str] = OrderedDict()
        """Where requests were sent whose answers have not been read to their end, the oldest first."""

    async def answer(self, request: EngineRequest) -> AsyncGenerator[bytes, None]:
        response = await self._send(request)
        # close(), not release(): a connection that is dropped is what stops the work in the engine.
        try:
            blocks = self._events(response) if request.stream else self._body(response)
            async with contextlib.aclosing(blocks):
                async for block in blocks:
                    yield block
            self._unfinished.pop(request.request_id, None)
        finally:
            response.close()

    async def _send(self, request: EngineRequest) -> aiohttp.ClientResponse:
        body = request.body | {"model": self._model}
        if self._ours:
            body["cache_salt"] = request.cache_salt
        try:
            payload = json.dumps(body, allow_nan=False).encode()
        except ValueError:
            raise InvalidRequest("A number in the request is too large.") from None  # 1e999: JSON, but no float
        headers = self._headers | {"content-type": "application/json", "x-request-id": request.request_id}
        # aiohttp watches the socket with one timer; asyncio.timeout around every read would cost 3 µs a token.
        silence = self._first_token_timeout if request.stream else self._answer_timeout
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout, sock_read=silence)
        # A replica that has just gone is still in the routing table for a moment. Nothing was sent, so ask again.
        for _ in range(2):
            url = await self._endpoints.pick()
            self._remember(request.request_id, url)
            path = url + _PATHS[request.operation]
            try:
                response = await self._client().post(path, data=payload, headers=headers, timeout=timeout)
            except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
                self._unfinished.pop(request.request_id, None)
                continue
            except TimeoutError as error:
                raise EngineTimeout(retry_after=_RETRY_AFTER) from error
            except (aiohttp.ClientError, OSError) as error:
                raise EngineUnavailable(retry_after=_RETRY_AFTER) from error
            if response.status != 200:
                self._unfinished.pop(request.request_id, None)
                raise await _refusal(response)
            return response
        raise EngineUnavailable(retry_after=_RETRY_AFTER)

    async def _events(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        """Whole events as they come. The stream must end with [DONE]; anything else is a failure, not an end."""
        cutter, read, started, done = sse.EventCutter(), response.content.readany, False, False
        try:
            while data := await read():
                block = cutter.feed(data)
                if not block:
                    continue
                # Quotes inside the model's text are escaped, so this can only be the envelope's own key.
                if _ERROR_EVENT in block:
                    yield_before, _, event = block.partition(_ERROR_EVENT)
                    if yield_before:
                        yield yield_before
                    raise _failure_in(_ERROR_EVENT + event, started=started or bool(yield_before))
                if not started:
                    started = True
                    _watch(response, self._idle_timeout)
                done = block.endswith(sse.DONE)
                yield block
        except TimeoutError as error:
            raise (EngineFailed() if started else EngineTimeout(retry_after=_RETRY_AFTER)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise (EngineFailed() if started else EngineUnavailable(retry_after=_RETRY_AFTER)) from error
        if not done:
            raise EngineFailed() if started else EngineUnavailable(retry_after=_RETRY_AFTER)

    async def _body(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        try:
            yield await response.read()
        except TimeoutError as error:
            raise EngineTimeout(retry_after=_RETRY_AFTER) from error
        except (aiohttp.ClientError, OSError) as error:
            # Nothing has reached the client: it may repeat, so this is "unavailable", not "failed".
            raise EngineUnavailable(retry_after=_RETRY_AFTER) from error

    def _remember(self, request_id: str, url: str) -> None:
        if not self._ours:
            return
        self._unfinished[request_id] = url
        while len(self._unfinished) > _UNRECKONED:
            self._unfinished.popitem(last=False)

    async def reckon(self, request_id: str) -> Tally | None:
        url = self._unfinished.pop(request_id, None)
        if url is None:
            return None
        try:
            async with asyncio.timeout(_RECKON_SECONDS):
                url = f"{url.removesuffix('/v1')}/usage/{request_id}"
                async with self._client().get(url, headers=self._headers) as response:
                    return Tally(**json.loads(await response.read())) if response.status == 200 else None
        except (TimeoutError, ValueError, TypeError, aiohttp.ClientError, OSError):
            return None

    async def ready(self) -> bool:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                url = (await self._endpoints.pick()).removesuffix("/v1") + self._ready_path
                async with self._client().get(url, headers=self._headers) as response:
                    return response.status == 200
        except (TimeoutError, ServingError, aiohttp.ClientError, OSError):
            return False

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _client(self) -> aiohttp.ClientSession:
        # Made on first use: a session belongs to the event loop that serves, not to the one that builds.
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Admission is decided before us (quotas.py); a second, silent queue here would only hide it.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
                auto_decompress=False,
                skip_auto_headers={"User-Agent", "Accept-Encoding"},
                trust_env=False,
            )
        return self._session


def _watch(response: aiohttp.ClientResponse, silence: float) -> None:
    """From now on a silence of so many seconds breaks the stream."""
    if response.connection is not None and response.connection.protocol is not None:
        response.connection.protocol.read_timeout = silence
        response.connection.protocol.start_timeout()  # also of the silence that has begun


async def _refusal(response: aiohttp.ClientResponse) -> ServingError:
    """What an engine's error status means to a caller. Its own text is not passed on: it may quote the request."""
    async with response:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                detail = _detail(json.loads(await response.read()))
        except (TimeoutError, ValueError, aiohttp.ClientError, OSError):
            detail = {}
    return _translate(response.status, detail)


def _failure_in(event: bytes, *, started: bool) -> ServingError:
    if started:
        return EngineFailed()
    try:
        detail = _detail(sse.payload_of(next(sse.events_in(event))))
    except (ValueError, StopIteration):
        detail = {}
    status = detail.get("code")
    return _translate(status if isinstance(status, int) else 500, detail)


def _translate(status: int, detail: Mapping[str, Any]) -> ServingError:
    message, place = str(detail.get("message", "")), _PARAM.match(str(detail.get("param") or ""))
    param = place[1] if place else None  # the field only: below it, names may be the caller's own
    if 400 <= status < 500 and (too_long := _TOO_LONG.search(message)):
        # Clients look for this wording (azure-wire-format, 1.3).
        return ContextTooLong(
            f"This model's maximum context length is {too_long[1] or too_long[2]} tokens. "
            "Shorten the prompt or ask for fewer tokens.",
            param="messages" if param == "input_tokens" else param,
        )
    if status in (400, 413, 422):
        what = (
            "its JSON schema is not valid or uses a keyword that is not supported"
            if "rammar" in message
            else "a value is not valid"
        )
        where = f" Look at '{param}'." if param else ""
        return InvalidRequest(f"The model cannot take this request because {what}.{where}", param=param)
    return EngineUnavailable(retry_after=_RETRY_AFTER)


def _detail(body: object) -> dict[str, Any]:
    error = body.get("error", body) if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}
