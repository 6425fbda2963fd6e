"""Connections rather than requests: many, half of one, slow ones, and those that speak something else."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from loadtests.hostile.attack import Kind, Run, asking, gets
from loadtests.hostile.attacks.filing import upload
from loadtests.hostile.attacks.schemas import CHAT
from loadtests.hostile.wire import _STATUS, CLOSED, RESET, UNREACHABLE, Mallory

ENDED = gets(400, 401, 408, 413, 429, 503, "closed", "reset", "unreachable", "silent", "held")
HELD = "held"
"""A connection that was open until the attack's end."""


def holding(count: int, data: Callable[[Mallory, int], bytes] | None = None, drip: bytes = b"") -> Run:
    """So many connections that begin something and then do nothing, or send a little more every second. Each is tried
    once: who is refused does not come again.
    """

    async def hold(mallory: Mallory, number: int) -> None:
        try:
            async with mallory.connection() as (reader, writer):
                if data is not None:
                    writer.write(data(mallory, number))
                while mallory.left > 0:
                    with suppress(TimeoutError):
                        got = await asyncio.wait_for(reader.read(2**16), min(1.0, max(0.01, mallory.left)))
                        found = _STATUS.match(got)
                        mallory.tally[found[1].decode() if found else CLOSED] += 1
                        return
                    if drip:
                        writer.write(drip)
                mallory.tally[HELD] += 1
        except (ConnectionRefusedError, TimeoutError):
            mallory.tally[UNREACHABLE] += 1
        except OSError:
            mallory.tally[RESET] += 1

    async def run(mallory: Mallory) -> None:
        await mallory.steadily(lambda n: hold(mallory, n), rate=count / 2, at_most=count, total=count)

    return run


def half_a_header(m: Mallory, n: int) -> bytes:
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nX-A: b"


def half_a_body(m: Mallory, n: int) -> bytes:
    return m.request("POST", CHAT, headers={"Content-Length": "5000"}) + b'{"model":'


def half_a_body_of_nobody(m: Mallory, n: int) -> bytes:
    return m.request("POST", CHAT, key=None, headers={"Content-Length": "5000"}) + b'{"model":'


def half_an_upload(m: Mallory, n: int) -> bytes:
    head = {"Content-Length": "100000000", "Content-Type": "multipart/form-data; boundary=x"}
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    return m.request("POST", "/v1/files", headers=head) + part + b"a" * 1000


def a_long_stream(m: Mallory, **more: object) -> bytes:
    return m.post(
        CHAT, m.chat(stream=True, max_tokens=400, messages=[{"role": "user", "content": "word " * 400}], **more)
    )


async def slow_readers(mallory: Mallory) -> None:
    """Streams and documents that nobody reads."""

    async def one(number: int) -> None:
        with suppress(OSError, TimeoutError):
            async with mallory.connection(small=True) as (_, writer):
                paths = ("/openapi.json", "/docs", "/console")
                data = a_long_stream(mallory) if number % 2 else mallory.request("GET", paths[number % 3]) * 50
                writer.write(data)
                await asyncio.sleep(max(0.0, mallory.left))
                mallory.tally[HELD] += 1
                return
        mallory.tally[RESET] += 1

    await mallory.steadily(one, rate=10, at_most=30)


async def slow_downloads(mallory: Mallory) -> None:
    """Of a file of 20 MB, by who reads a few KiB of it."""
    file = await upload(mallory, b'{"custom_id": "a"}\n' * 1_000_000)

    async def one(_: int) -> None:
        with suppress(OSError, TimeoutError):
            async with mallory.connection(small=True) as (reader, writer):
                writer.write(mallory.request("GET", f"/v1/files/{file}/content"))
                await asyncio.wait_for(reader.read(2000), 5)
                await asyncio.sleep(max(0.0, mallory.left))
                mallory.tally[HELD] += 1
                return
        mallory.tally[RESET] += 1

    await mallory.steadily(one, rate=10, at_most=30)
    await mallory.ask(mallory.request("DELETE", f"/v1/files/{file}"))


def leaving(after: float, *, rate: float, reset: bool = False) -> Run:
    """Streams that are left after so many seconds."""

    async def one(mallory: Mallory, number: int) -> None:
        try:
            async with mallory.connection() as (reader, writer):
                writer.write(a_long_stream(mallory))
                await writer.drain()
                found = None
                if after:
                    with suppress(TimeoutError):
                        found = _STATUS.match(await asyncio.wait_for(reader.read(4096), 10))
                    await asyncio.sleep(after)
                mallory.tally[found[1].decode() if found else "left"] += 1
        except OSError:
            mallory.tally[RESET] += 1

    async def run(mallory: Mallory) -> None:
        await mallory.steadily(lambda n: one(mallory, n), rate=rate, at_most=60)

    return run


def pipelined(m: Mallory, n: int) -> bytes:
    """A hundred requests at once on one connection."""
    kinds = (
        m.request("GET", "/v1/models", keep=True), m.request("GET", "/livez", keep=True),
        m.post(CHAT, m.chat(), keep=True), m.request("GET", "/v1/models", key=None, keep=True),
    )  # fmt: skip
    return kinds[n % 4] * (100 if n % 4 != 2 else 5) + m.request("GET", "/livez")


def other_protocols(m: Mallory, n: int) -> bytes:
    def upgrade(to: str) -> bytes:
        more = {
            "HTTP2-Settings": "AAMAAABk",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        }
        return m.request("GET", "/v1/models", headers=more | {"Upgrade": to, "Connection": "Upgrade, HTTP2-Settings"})

    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(507)
    odd = (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", hello, b"SSH-2.0-x\r\n",
        b"\x00" * 5000, b"*1\r\n$4\r\nPING\r\n",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + m.request("GET", "/v1/models"), b"\r\n\r\n\r\nGET",
        b"GET /v1/models\r\n\r\n", b"HELO a\r\n", b"GET /v1/models HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\1\x0a\0\0\2\0\1\0\2", upgrade("h2c"), upgrade("websocket"),
        os.urandom(3000), b"GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /livez HTTP/1.1\nHost: a\n\n",
    )  # fmt: skip
    return odd[n % len(odd)]


def expecting(m: Mallory, n: int) -> bytes:
    """Who waits for 100 Continue and never goes on."""
    expect = "100-continue" if n % 3 else "200-ok, 100-continue"
    return m.request("POST", CHAT, key=None if n % 2 else "", headers={"Content-Length": "1000000", "Expect": expect})


async def opened_and_closed(mallory: Mallory) -> None:
    """Connections that are closed as soon as they are there."""

    async def one(_: int) -> None:
        try:
            async with mallory.connection():
                mallory.tally["left"] += 1
        except OSError:
            mallory.tally[UNREACHABLE] += 1

    await mallory.steadily(one, rate=400, at_most=100)


def header_lines(m: Mallory, n: int) -> bytes:
    """What tells two servers on the way different ends of a request."""
    smuggled = b"GET /admin/v1/keys HTTP/1.1\r\nHost: a\r\n\r\n"
    heads = (
        {"Transfer-Encoding": "chunked", "Content-Length": "4"}, {"Transfer-Encoding": "xchunked"},
        {"Transfer-Encoding ": "chunked"}, {"Transfer-Encoding": "chunked\r\nTransfer-Encoding: x"},
        {"Content-Length": "0\r\nContent-Length: 44"}, {"Foo": "a\r\n Content-Length: 9"},
        {"X:Transfer-Encoding": "chunked"}, {"Connection": "keep-alive, Authorization"},
        {"Connection": "Content-Length"}, {"Content-Length\x00": "3"},
    )  # fmt: skip
    return m.request("POST", CHAT, headers=heads[n % len(heads)], keep=True) + b"0\r\n\r\n" + smuggled


_of = Kind("connections", ENDED, seconds=6.0)
LEFT = gets(200, 429, "left", "reset", "closed")
ATTACKS = (
    _of("half headers", "1,000 connections with half a header", holding(1000, half_a_header), short=True),
    _of("half headers, slowly", "1,000 that add a letter a second", holding(1000, half_a_header, b"b")),
    _of("half headers, 5,000", "more than a proxy has places", holding(5000, half_a_header)),
    _of(
        "half headers, same address",
        "200 behind the bystander's own address",
        holding(200, half_a_header),
        same_address=True,
    ),
    _of("half bodies", "500 with half a body", holding(500, half_a_body)),
    _of("half bodies of nobody", "500 without a key", holding(500, half_a_body_of_nobody), short=True),
    _of("half bodies, slowly", "500 of a byte a second", holding(500, half_a_body, b" ")),
    _of("half uploads", "200 files that do not go on", holding(200, half_an_upload)),
    _of("idle connections", "2,000 that say nothing", holding(2000)),
    _of("opened and closed", "400 a second", opened_and_closed, gets("left", "reset", "unreachable")),
    _of("slow readers", "30 streams and documents that nobody reads", slow_readers, gets("held", "reset"), short=True),
    _of("slow downloads", "30 of a file that nobody reads", slow_downloads, gets(200, "held", "reset")),
    _of("streams left at once", "50 a second", leaving(0.0, rate=50), LEFT, short=True),
    _of("streams left soon", "20 a second, after their first bytes", leaving(0.1, rate=20), LEFT),
    _of("pipelining", "100 requests in one go", asking(pipelined, rate=5), gets(200, 401, 429)),
    _of(
        "other protocols",
        "HTTP/2, TLS, SSH, Redis, PROXY, WebSockets",
        asking(other_protocols, rate=50, at_most=40, patience=4),
        ENDED | gets(200, 403, 404, 405, 426, 505),
        short=True,
    ),
    _of(
        "expecting",
        "100-continue, and nothing then",
        asking(expecting, rate=40, at_most=200, patience=6),
        ENDED | gets(417),
    ),
    _of(
        "two ends of a request",
        "what proxies and servers read differently",
        asking(header_lines, rate=20, at_most=20, patience=4),
        ENDED | gets(200, 403, 404, 405, 501),
    ),
)
