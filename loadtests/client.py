"""Sends one request and reads its answer line by line, as the bytes come. Owns gevent's HTTP client.

Locust's own streaming reads 1 KiB at a time and so holds first tokens back; `readline` does not. The pool has a place
for every request that may be in flight: a smaller one would queue them here, unseen.
"""

import json
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gevent
import gevent.socket
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.client import HTTPClient
from geventhttpclient.response import HTTPSocketPoolResponse

from loadtests.metrics import Kind
from loadtests.plan import Server
from loadtests.scenario import Client, Flow
from loadtests.sse import Reading
from loadtests.workloads import Ask

SLOW_BUFFER = 4096
"""A slow reader's receive buffer: what the kernel takes for it would hide from the server that nobody reads."""
IMPATIENT_WAIT_S = 0.05


@dataclass(frozen=True, slots=True)
class Exchange:
    """What became of one request. sent and end: on the clock that was given. retry_after: seconds, when it was said."""

    kind: Kind
    status: int
    attempts: int
    sent: float
    end: float
    reading: Reading
    retry_after: float | None = None


class Caller:
    """Asks one server on open connections. now: the run's clock. most: requests in flight at a time."""

    def __init__(self, server: Server, keys: Mapping[str, str], most: int, now: Callable[[], float]) -> None:
        self._server = server
        self._keys = keys
        self._now = now
        self._http = HTTPClient.from_url(server.base, concurrency=most, connection_timeout=10, network_timeout=3600)
        self._slow = HTTPClient.from_url(
            server.base, concurrency=most, connection_timeout=10, network_timeout=3600, block_size=512
        )
        # There is no option for it, and once connected it is too late to shrink a window.
        self._slow._connection_pool._create_tcp_socket = _narrow_socket  # type: ignore[method-assign]

    def body(self, flow: Flow, ask: Ask) -> bytes:
        """What is sent, ready before the request is due."""
        return json.dumps(payload(self._server, flow.client, ask)).encode()

    def headers(self, flow: Flow) -> dict[str, str]:
        key = secrets.token_hex(20) if flow.key == "invalid" else self._keys.get(flow.key, "")
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        return headers | ({"Authorization": f"Bearer {key}", "api-key": key} if key else {})

    def ask(self, flow: Flow, ask: Ask, body: bytes) -> Exchange:
        """Send it, again where the flow's client would, and read the answer to its end."""
        client, begin, attempts = flow.client, self._now(), 0
        while True:
            attempts += 1
            exchange = self._once(flow, ask, body, begin, attempts)
            if client.retry == "never" or exchange.kind not in ("limited", "limited_bare", "unavailable"):
                return exchange
            wait = IMPATIENT_WAIT_S
            if client.retry == "honour":
                wait = exchange.retry_after if exchange.retry_after is not None else 1.0
            if self._now() + wait - begin > client.patience:
                return exchange
            gevent.sleep(wait)

    def _once(self, flow: Flow, ask: Ask, body: bytes, begin: float, attempts: int) -> Exchange:
        reading, status, retry_after = Reading(keep_text=ask.keep_text), 0, None
        kind: Kind
        response: HTTPSocketPoolResponse | None = None
        left = flow.client.timeout if attempts == 1 else max(1.0, flow.client.patience)
        try:
            with gevent.Timeout(left):
                http = self._slow if flow.client.pause else self._http
                path = f"{self._server.path}/v1/chat/completions"
                response = http.request("POST", path, body, self.headers(flow))
                status = response.status_code
                if status == 200:
                    kind = self._read(response, reading, flow.client)
                else:
                    retry_after = retry_after_of(response)
                    kind = kind_of(status, retry_after)
                    response.read()
        except gevent.Timeout:
            kind = "timeout"
        except (OSError, HTTPParseError, ValueError):
            kind = "unreachable" if response is None else "broken"
        finally:
            if response is not None:
                response.release()
        return Exchange(kind, status, attempts, begin, self._now(), reading, retry_after)

    def _read(self, response: HTTPSocketPoolResponse, reading: Reading, client: Client) -> Kind:
        while line := response.readline(b"\n"):
            before = reading.frames
            reading.line(line, self._now())
            if client.leave_after is not None and reading.frames >= client.leave_after:
                return "left"  # the caller's `release` closes the connection
            if client.pause and reading.frames > before:
                gevent.sleep(client.pause)
        if reading.error:
            return "error_event"
        if not reading.done:
            return "broken"
        return "ok" if reading.whole else "malformed"

    def close(self) -> None:
        self._http.close()
        self._slow.close()

    def json(self, method: str, path: str, key: str, body: bytes = b"", kind: str = "application/json") -> Any:
        """Another route's answer. Raises OSError unless it is 200."""
        headers = {"Content-Type": kind, "Authorization": f"Bearer {self._keys.get(key, '')}"}
        with gevent.Timeout(60, OSError("no answer")):
            response = self._http.request(method, self._server.path + path, body, headers)
            content = bytes(response.read())
        if response.status_code != 200:
            raise OSError(f"{method} {path} was answered with {response.status_code}")
        return content if kind == "application/octet-stream" else json.loads(content)


def payload(server: Server, client: Client, ask: Ask) -> dict[str, Any]:
    """The body of a streamed chat request."""
    body: dict[str, Any] = {
        "model": server.model,
        "messages": ask.messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": ask.answer_tokens,
        "temperature": 0,
    }
    if server.forced and ask.forced:
        # Special tokens as text: else the token that ends a turn has none, nor what follows, and no first one is seen.
        body |= {"min_tokens": ask.answer_tokens, "ignore_eos": True, "skip_special_tokens": False}
    if client.tier:
        body["service_tier"] = client.tier
    return body | (ask.fields or {})


def kind_of(status: int, retry_after: float | None) -> Kind:
    """The outcome that an HTTP status other than 200 is."""
    match status:
        case 429:
            return "limited_bare" if retry_after is None else "limited"
        case 401 | 403:
            return "unauthorized"
        case 503:
            return "unavailable"
        case _:
            return "refused" if 400 <= status < 500 else "failed"


def retry_after_of(response: Any) -> float | None:
    """Seconds, from `retry-after-ms` or `Retry-After`; None when neither is there as a number."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = response.get(name)
        if isinstance(value, str) and value.replace(".", "", 1).isdigit():
            return float(value) * unit
    return None


def _narrow_socket(family: int, socktype: int, protocol: int) -> gevent.socket.socket:
    narrow = gevent.socket.socket(family, socktype, protocol)
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)
    return narrow


def clock(zero: float) -> Callable[[], float]:
    """Seconds since this moment of `time.perf_counter`."""
    return lambda: time.perf_counter() - zero
