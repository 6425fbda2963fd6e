"""An attacker's end of a connection: whatever bytes he likes, from an address of his choice, and what came back.

No HTTP library: what it refuses to send is what is to be sent here.
"""

import asyncio
import collections
import json
import re
import socket
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

CLOSED, RESET, SILENT, UNREACHABLE = "closed", "reset", "silent", "unreachable"
"""What an attacker gets instead of a status: the connection ended without one; nothing came in time; nobody took it."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_MOST = 4 * 2**20
Body = bytes | Mapping[str, Any] | list[Any] | None


@dataclass(frozen=True)
class Target:
    """Whom to attack and as whom. source: the attacker's address. seconds: how long.

    bound_key: a key of his that only another network may use. ports: all that the product listens on beside `port`.
    canary: a text that no log may hold. foreign: a file of another tenant.
    """

    host: str
    port: int
    model: str
    key: str
    bound_key: str
    source: str
    seconds: float
    canary: str
    ports: tuple[int, ...] = ()
    foreign: str = "file-0"

    @classmethod
    def read(cls, text: str) -> Self:
        fields = json.loads(text)
        return cls(**fields | {"ports": tuple(fields["ports"])})


@dataclass(frozen=True)
class Answer:
    """outcome: a status, or one of the words above."""

    outcome: str
    body: bytes = b""


class Mallory:
    """The attacker. tally: what he got, counted."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.tally: collections.Counter[str] = collections.Counter()
        self._end = time.monotonic() + target.seconds

    @property
    def left(self) -> float:
        """Seconds of the attack."""
        return self._end - time.monotonic()

    def chat(self, **fields: Any) -> dict[str, Any]:
        """A chat's body, sound but for these fields."""
        messages = [{"role": "user", "content": f"{self.target.canary} Which allergies?"}]
        return {"model": self.target.model, "messages": messages, "max_tokens": 4} | fields

    def request(
        self,
        method: str,
        path: str,
        body: Body = None,
        *,
        key: str | None = "",
        headers: Mapping[str, str] | None = None,
        keep: bool = False,
    ) -> bytes:
        """The bytes of a request. key: his own, unless given; None: without one. keep: the connection, afterwards."""
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        fields = {"Host": f"{self.target.host}:{self.target.port}"}
        fields |= {} if key is None else {"Authorization": f"Bearer {key or self.target.key}"}
        fields |= {} if body is None else {"Content-Type": "application/json", "Content-Length": str(len(data))}
        fields |= {} if keep else {"Connection": "close"}
        lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in (fields | dict(headers or {})).items() if v)]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + data

    def post(self, path: str, body: Body, **more: Any) -> bytes:
        return self.request("POST", path, body, **more)

    @asynccontextmanager
    async def connection(
        self, port: int = 0, *, small: bool = False
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """small: with a receive buffer of a few KiB, for who does not read. Raises OSError."""
        sock = socket.socket()
        try:
            if small:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.setblocking(False)
            sock.bind((self.target.source, 0))
            address = (self.target.host, port or self.target.port)
            await asyncio.wait_for(asyncio.get_running_loop().sock_connect(sock, address), 5)
            reader, writer = await asyncio.open_connection(sock=sock, limit=2**16)
        except BaseException:
            sock.close()
            raise
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def ask(
        self,
        data: bytes | Iterable[bytes] | AsyncIterable[bytes],
        *,
        port: int = 0,
        patience: float = 30.0,
        count: bool = True,
    ) -> Answer:
        """Send, and read the answer to its end, or as much as anybody would."""
        answer = await self._ask(data, port, patience)
        if count:
            self.tally[answer.outcome] += 1
        return answer

    async def _ask(self, data: bytes | Iterable[bytes] | AsyncIterable[bytes], port: int, patience: float) -> Answer:
        try:
            async with self.connection(port) as (reader, writer):
                sending = asyncio.create_task(_send(writer, data))
                try:
                    return await asyncio.wait_for(_read(reader), patience)
                except TimeoutError:
                    return Answer(SILENT)
                finally:
                    sending.cancel()
                    with suppress(asyncio.CancelledError, OSError):
                        await sending
        except (ConnectionRefusedError, TimeoutError):
            return Answer(UNREACHABLE)
        except OSError:
            return Answer(RESET)

    async def steadily(
        self, action: Callable[[int], Awaitable[object]], *, rate: float, at_most: int = 8, total: int = 10**9
    ) -> None:
        """Act so often a second until the time is over, but never so many at a time, and so many in all."""
        running: set[asyncio.Task[object]] = set()
        due, number = time.monotonic(), 0
        while self.left > 0:
            if len(running) < at_most and number < total:
                task = asyncio.ensure_future(action(number))
                running.add(task)
                task.add_done_callback(running.discard)
                number += 1
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        if running:
            await asyncio.wait(running, timeout=30)
        for task in running:
            task.cancel()
            self.tally[SILENT] += 1


async def _send(writer: asyncio.StreamWriter, data: bytes | Iterable[bytes] | AsyncIterable[bytes]) -> None:
    with suppress(OSError):
        if isinstance(data, bytes):
            data = (data,)
        if isinstance(data, AsyncIterable):
            async for piece in data:
                writer.write(piece)
                await writer.drain()
            return
        for piece in data:
            writer.write(piece)
            await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Answer:
    """Up to the answer's end: its length, its last chunk, or the connection's end."""
    data = b""
    with suppress(ConnectionError):
        while not _is_whole(data) and len(data) < _MOST:
            piece = await reader.read(2**16)
            if not piece:
                break
            data += piece
    found = _STATUS.match(data)
    return Answer(found[1].decode(), data.partition(b"\r\n\r\n")[2]) if found else Answer(CLOSED)


def _is_whole(data: bytes) -> bool:
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return False
    if found := re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE):
        return len(body) >= int(found[1])
    return body.endswith(b"0\r\n\r\n")
