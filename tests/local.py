"""The product in this process: on a settings tree, behind httpx's ASGI transport or behind a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from starlette.types import ASGIApp

from serving.app import build_keyring, request_log_file
from serving.engines.engine import EngineRequest, Tally
from serving.settings import Settings
from serving.tenants.callers import SYSTEM_TENANT, Role

Tree = dict[str, Any]
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
WHOLE = json.dumps({"object": "chat.completion", "choices": [], "usage": USAGE}).encode()


class AsOperator(httpx.Auth):
    """Asks /metrics as who runs the server, and everything else as it is: tests look there between their requests."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if request.url.path == "/metrics":
            request.headers["authorization"] = f"Bearer {self._site.operator_key()}"
        yield request


@dataclass(frozen=True, slots=True)
class Site:
    """A gateway with a working key."""

    app: ASGIApp
    settings: Settings
    key: str

    def operator_key(self) -> str:
        """A key of who runs the server, the same each time."""
        file = self.settings.server.state_dir / "operator.key"
        if not file.exists():
            roles: frozenset[Role] = frozenset({"operator"})
            file.write_text(build_keyring(self.settings).mint(SYSTEM_TENANT, "tests", roles=roles)[1].reveal())
        return file.read_text()

    def client(self, url: str = "", **headers: str) -> httpx.AsyncClient:
        """A client with the key, or with these headers instead; of `listening` at url, else without a socket. It asks
        /metrics as the operator.
        """
        given = headers or {"authorization": f"Bearer {self.key}"}
        transport = None if url else httpx.ASGITransport(self.app, raise_app_exceptions=False)
        address = url or "http://gateway.test"
        return httpx.AsyncClient(transport=transport, base_url=address, headers=given, auth=AsOperator(self))

    def log(self) -> list[Tree]:
        """The request log so far."""
        return [json.loads(line) for line in request_log_file(self.settings).read_text().splitlines()]


def chat(text: str = "one two three", **fields: Any) -> Tree:
    """The body of a chat request."""
    return {"model": "echo", "messages": [{"role": "user", "content": text}], **fields}


def event(**payload: Any) -> bytes:
    """A server-sent event as vLLM writes it."""
    return b"data: " + json.dumps(payload, separators=(",", ":")).encode() + b"\n\n"


def word(text: str) -> bytes:
    """A chat stream's event with a piece of text."""
    return event(choices=[{"index": 0, "delta": {"content": text}}])


ROLE = event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}])


def events(body: bytes) -> list[Any]:
    """What the events of a stream hold; `[DONE]` as text. Fails on anything that is no whole event."""
    assert body.endswith(b"\n\n")
    parts = body.removesuffix(b"\n\n").split(b"\n\n")
    assert all(part.startswith(b"data: ") for part in parts)
    return [p[6:].decode() if p == b"data: [DONE]" else json.loads(p[6:]) for p in parts]


def text_of(payloads: list[Any]) -> str:
    """The answer that the events of a chat stream add up to."""
    choices = [choice for payload in payloads if isinstance(payload, dict) for choice in payload.get("choices", [])]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def error_of(response: httpx.Response, status: int, code: str) -> Tree:
    """The error in a response, when it is one of this status and code in OpenAI's shape."""
    assert (response.status_code, response.json()["error"]["code"]) == (status, code), response.text
    assert response.json().keys() == {"error"}
    error: Tree = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


def assert_says_when_to_come_back(response: httpx.Response) -> None:
    seconds, milliseconds = int(response.headers["retry-after"]), int(response.headers["retry-after-ms"])
    assert 0 < milliseconds <= seconds * 1000


@dataclass
class RecordingEngine:
    """An Engine that keeps what it is asked, yields `items`, then raises `error` if there is one."""

    items: tuple[bytes, ...] = (WHOLE,)
    error: BaseException | None = None
    tally: Tally | None = None
    asked: list[EngineRequest] = field(default_factory=list)
    reckoned: list[str] = field(default_factory=list)
    closed: bool = False

    async def answer(self, request: EngineRequest) -> AsyncGenerator[bytes, None]:
        self.asked.append(request)
        for item in self.items:
            yield item
        if self.error:
            raise self.error

    def cut(self) -> None: ...

    async def reckon(self, request_id: str) -> Tally | None:
        self.reckoned.append(request_id)
        return self.tally

    async def ready(self) -> bool:
        return True

    async def close(self) -> None:
        self.closed = True


async def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until it holds; fail when it does not in time. It takes milliseconds; the rest is for a busy machine."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.005)


@contextmanager
def listening(app: ASGIApp, port: int = 0) -> Iterator[str]:
    """The app in a real uvicorn, in a thread, on this port or a free one; gives its address. For what needs sockets."""
    server = _Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1))
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.002)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class _Server(uvicorn.Server):
    """One that stops as soon as it is told to; uvicorn's own looks every 100 ms."""

    async def main_loop(self) -> None:
        while not self.should_exit:
            await asyncio.sleep(0.005)
