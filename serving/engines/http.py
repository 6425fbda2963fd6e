"""An engine behind HTTP: a vLLM replica under Ray Serve, a bare vLLM, a NIM, Azure OpenAI.

aiohttp rather than httpx: httpx's pool costs grow with the square of concurrency (https://github.com/encode/httpx/issues/3215).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, NamedTuple

import aiohttp
from pydantic_core import to_json

from serving.engines.credentials import Credential, NoCredential
from serving.engines.deaths import FATAL, Deaths, MemoryDeaths, digest_of
from serving.engines.endpoints import Address, Endpoints, FixedEndpoint, NoReplica, OpenAIAddress, Place
from serving.engines.engine import ADAPTER_HEADER, BATCH, BATCH_LANE, LANE_HEADER, EngineRequest, Tally
from serving.engines.fields import Fields
from serving.engines.reading import AnswerBroke, NotTaken, body, events, refusal
from serving.engines.refusals import RETRY_AFTER, EngineMisconfigured, GrammarRefused
from serving.engines.tries import Tries
from serving.engines.waiting import WaitingRoom
from serving.errors import EngineTimeout, EngineUnavailable, FatalRequest, InvalidRequest, ServingError
from serving.protocol import sse

__all__ = ["Endpoints", "FixedEndpoint", "HttpEngine"]

_READY_SECONDS = 3.0
_RECKON_SECONDS = 4.0
_UNRECKONED = 4096
_LEAVE_SECONDS = 1.0
_LEAVING = 256
"""Connections at a time whose last bytes are waited for."""


class HttpEngine:
    """An Engine that forwards to an OpenAI-compatible endpoint and hands its bytes on.

    model: the name that the endpoint knows. headers: sent with every request (the internal secret). credential: signs
    in. address: how its URLs are formed; ready_path is for OpenAI's kind: vLLM's /v1/models answers 200 even when its
    engine is dead. fields: what the endpoint takes of a request.
    ours: the endpoint is one of our vLLM replicas, so each request carries its tenant's cache_salt, its priority and
    its place in a trace, and the replica tells what a request has cost (deployments/tallies.py). What others send is
    put into our form first. room: where requests are held while no replica runs; on_retry: told each time that another
    replica is asked. deaths: what is known of requests that replicas die of; on_fatal: told of each that is refused.
    Times in seconds, each for one request with all its tries, and without the time in which it is held:
    first_token_timeout until a stream's first event, idle_timeout between events, answer_timeout for an answer in one
    piece.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        *,
        model: str,
        headers: Mapping[str, str] | None = None,
        credential: Credential | None = None,
        address: Address | None = None,
        fields: Fields | None = None,
        ours: bool = False,
        ready_path: str = "/v1/models",
        room: WaitingRoom | None = None,
        deaths: Deaths | None = None,
        on_retry: Callable[[], None] = lambda: None,
        on_fatal: Callable[[], None] = lambda: None,
        connect_timeout: float = 3.0,
        first_token_timeout: float = 120.0,
        idle_timeout: float = 60.0,
        answer_timeout: float = 600.0,
    ) -> None:
        self._endpoints = endpoints
        self._model = model
        self._headers = dict(headers or {})
        self._credential = credential or NoCredential()
        self._address = address or OpenAIAddress(ready_path=ready_path)
        self._fields = fields or Fields()
        self._ours = ours
        self._room = room or WaitingRoom()
        self._deaths = deaths or MemoryDeaths()
        self._on_retry = on_retry
        self._on_fatal = on_fatal
        self._first_token_timeout = first_token_timeout
        self._idle_timeout = idle_timeout
        self._answer_timeout = answer_timeout
        # No total: a stream may last. aiohttp watches silences with one timer; asyncio.timeout would cost 3 µs a token.
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout)
        self._session: aiohttp.ClientSession | None = None
        self._unfinished: OrderedDict[str, str] = OrderedDict()
        """Where requests were sent whose answers have not been read to their end, the oldest first."""
        self._opening: set[asyncio.Timeout] = set()
        self._answering: set[aiohttp.ClientResponse] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._is_cut = False

    async def answer(self, request: EngineRequest) -> AsyncGenerator[bytes, None]:
        opened = await self._open(request)
        self._answering.add(opened.response)
        is_whole = False
        try:
            async with contextlib.aclosing(opened.rest):
                yield opened.first
                async for block in opened.rest:
                    yield block
            self._unfinished.pop(request.request_id, None)
            is_whole = True
        except AnswerBroke:
            self._died_of(request, opened.place.url)
            raise
        finally:
            self._answering.discard(opened.response)
            self._leave(opened.response, is_whole=is_whole)
            opened.place.left()

    def _leave(self, response: aiohttp.ClientResponse, *, is_whole: bool) -> None:
        """A whole answer's connection is used again once its last bytes are in; nobody waits for them. Any other is
        dropped: that is what stops the work in the engine.
        """
        if is_whole and not response.content.at_eof() and len(self._leaving) < _LEAVING:
            task = asyncio.create_task(_read_out(response))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        else:
            response.close()

    def cut(self) -> None:
        """End what is under way, each with an error, and take nothing more: this process is to end. What was generated
        is asked for as ever.
        """
        self._is_cut, now = True, asyncio.get_running_loop().time()
        for clock in tuple(self._opening):
            clock.reschedule(now)
        for response in tuple(self._answering):
            response.close()

    async def _open(self, request: EngineRequest) -> _Opened:
        """The answer's first item. A replica that did not take the request is replaced, within bounds and only while a
        first token could still come in time; what it may have begun is never asked for, so it is not charged.
        """
        if self._is_cut:
            raise EngineUnavailable(retry_after=RETRY_AFTER)
        if not self._deaths.are_none and self._deaths.of(digest_of(request, self._model)) >= FATAL:
            raise self._fatal()
        payload = self._payload(request)
        patience = self._first_token_timeout if request.stream else self._answer_timeout
        tries = Tries(asyncio.get_running_loop().time, ours=self._ours, first_token_timeout=self._first_token_timeout)
        clock = asyncio.timeout(patience)
        self._opening.add(clock)
        try:
            async with clock:
                headers = await self._headers_of(request)
                while True:
                    try:
                        place = await self._endpoints.pick(request, tries.failed)
                        self._room.seen_awake()
                    except NoReplica:
                        clock.reschedule(None)  # a start is not the model's slowness
                        await self._room.hold(self._endpoints.wake, line=request.priority >= BATCH)
                        clock.reschedule(asyncio.get_running_loop().time() + patience)
                        tries.start_anew()
                        place = await self._endpoints.pick(request)
                    self._remember(request.request_id, place.url)
                    try:
                        return await self._ask(place, request, payload, headers, pause=tries.pause_before(place.url))
                    except NotTaken as failure:
                        if failure.broke and self._died_of(request, place.url) >= FATAL:
                            raise self._fatal() from failure
                        if not tries.go_on_after(failure, place.url):
                            raise EngineUnavailable(retry_after=RETRY_AFTER) from failure
                        self._on_retry()
        except TimeoutError as error:
            raise EngineTimeout(retry_after=RETRY_AFTER) from error
        except ServingError as error:
            if isinstance(error, GrammarRefused):
                error.came_by(request.body)
            if error.free:
                self._unfinished.pop(request.request_id, None)
            raise
        finally:
            self._opening.discard(clock)

    def _died_of(self, request: EngineRequest, replica: str) -> int:
        """How many replicas have, as far as one can see. Others' are not seen: one address stands for all of them."""
        if not self._ours or self._is_cut:
            return 0
        return self._deaths.happened(digest_of(request, self._model), replica)

    def _fatal(self) -> FatalRequest:
        self._on_fatal()
        return FatalRequest()

    def _payload(self, request: EngineRequest) -> bytes:
        fields = self._fields.of(request.body) | {"model": request.adapter or self._model}
        if self._ours:
            fields["cache_salt"] = request.cache_salt
            if request.priority:
                fields["priority"] = request.priority
        payload = to_json(fields)  # half a million token ids in 20 ms, where json.dumps takes 100
        if b"Infinity" in payload or b"NaN" in payload:  # a word, or no JSON
            try:
                json.dumps(fields, allow_nan=False)
            except ValueError:
                raise InvalidRequest("A number in the request is too large.") from None
        return payload

    async def _headers_of(self, request: EngineRequest) -> dict[str, str]:
        own = {"content-type": "application/json", "x-request-id": request.request_id}
        if self._ours and request.priority >= BATCH:
            own[LANE_HEADER] = BATCH_LANE
        if self._ours and request.adapter:
            own[ADAPTER_HEADER] = request.adapter
        if self._ours and request.traceparent:
            own["traceparent"] = request.traceparent
        return self._headers | await self._credential.headers() | own

    async def _ask(
        self, place: Place, request: EngineRequest, payload: bytes, headers: Mapping[str, str], *, pause: float
    ) -> _Opened:
        """One try, after a pause. Raises NotTaken, where another replica may be asked, and the errors of `answer`."""
        try:
            await asyncio.sleep(pause)
            response = await self._post(place, request, payload, headers)
            try:
                if response.status != 200:
                    raise await self._refusal(response)
                blocks = self._blocks(response, request)
                opened = _Opened(place, response, await anext(blocks), blocks)
            except BaseException:
                response.close()
                raise
        except BaseException:
            place.left()
            raise
        place.began()
        return opened

    async def _refusal(self, response: aiohttp.ClientResponse) -> ServingError:
        return NotTaken() if response.status == 503 and self._ours else await refusal(response, ours=self._ours)

    async def _post(
        self, place: Place, request: EngineRequest, payload: bytes, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        try:
            return await self._client().post(
                self._address.of(place.url, request.operation),
                data=payload,
                headers=headers,
                timeout=self._timeout,
                allow_redirects=False,  # it would take our credential to another host
            )
        except (aiohttp.ClientConnectorCertificateError, aiohttp.InvalidURL) as error:
            raise EngineMisconfigured from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            place.broke()
            raise NotTaken(reached=False) from error  # a replica that goes is in the table for a moment more
        except (aiohttp.ClientConnectionError, OSError) as error:
            place.broke()
            raise NotTaken(broke=True) from error
        except aiohttp.ClientError as error:
            raise EngineUnavailable(retry_after=RETRY_AFTER) from error

    def _blocks(self, response: aiohttp.ClientResponse, request: EngineRequest) -> AsyncGenerator[bytes, None]:
        if not request.stream:
            return body(response, ours=self._ours)
        cutter = sse.EventCutter() if self._ours else sse.ForeignEventCutter(_choices_of(request.body))
        return events(response, cutter, idle_timeout=self._idle_timeout, ours=self._ours)

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
                headers = self._headers | await self._credential.headers()
                async with self._client().get(url, headers=headers) as response:
                    return Tally(**json.loads(await response.read())) if response.status == 200 else None
        except (TimeoutError, ValueError, TypeError, ServingError, aiohttp.ClientError, OSError):
            return None

    async def ready(self) -> bool:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                try:
                    place = await self._endpoints.pick()
                except NoReplica:
                    return self._endpoints.sleeps
                place.left()
                url = self._address.ready(place.url)
                headers = self._headers | await self._credential.headers()
                async with self._client().get(url, headers=headers, allow_redirects=False) as response:
                    return self._says_ready(response.status)
        except (TimeoutError, ServingError, aiohttp.ClientError, OSError):
            return False

    def _says_ready(self, status: int) -> bool:
        # Not every endpoint has a list of models, and one that is at its limit is up.
        return status == 200 if self._ours else status in (200, 404, 405, 429)

    async def close(self) -> None:
        self._credential.close()
        await self._room.close()
        for task in tuple(self._leaving):
            task.cancel()
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


def _choices_of(body: Mapping[str, Any]) -> int:
    """How many choices the answer has: `n` for each prompt."""
    prompt = body.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    return prompts * (body.get("n") or 1)


async def _read_out(response: aiohttp.ClientResponse) -> None:
    """Past `[DONE]` there is the end of the transfer, or an endpoint that holds the connection: then it is dropped."""
    try:
        async with asyncio.timeout(_LEAVE_SECONDS):
            while await response.content.readany():
                pass
    except (TimeoutError, aiohttp.ClientError, OSError):
        pass
    finally:
        response.close()


class _Opened(NamedTuple):
    place: Place
    response: aiohttp.ClientResponse
    first: bytes
    rest: AsyncGenerator[bytes, None]
