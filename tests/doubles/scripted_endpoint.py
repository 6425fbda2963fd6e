"""An OpenAI endpoint of any habit: a raw server that answers each POST with the bytes that a script gives for its body.

No HTTP library between the script and the wire: pieces go out as they are, one write each, and then what `then` says.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """pieces: of the body, each in a write of its own. then: close well, hold the connection open, or break it."""

    pieces: tuple[bytes, ...]
    then: Literal["close", "hold", "reset"] = "close"
    status: int = 200
    content_type: str = "text/event-stream"


Script = Callable[[str, Body], Reply]
"""Of the path and the body of a POST."""


@contextmanager
def scripted(script: Script) -> Iterator[str]:
    """The endpoint, in a thread; gives its URL, with /v1."""
    loop, ready, urls = asyncio.new_event_loop(), threading.Event(), list[str]()

    async def serve() -> None:
        server = await asyncio.start_server(lambda reader, writer: _answer(script, reader, writer), "127.0.0.1", 0)
        urls.append(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        ready.set()
        async with server:
            await server.serve_forever()

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(serving)
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()

    serving = loop.create_task(serve())
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait(5)
    try:
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(serving.cancel)
        thread.join(5)


async def _answer(script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        method, path, _ = head.split(" ", 2)
        length = next((int(h.split(":")[1]) for h in head.split("\r\n") if h.lower().startswith("content-length")), 0)
        body = await reader.readexactly(length)
        reply = Reply((b'{"data": []}',), content_type="application/json")
        if method == "POST":
            reply = script(path, json.loads(body))
        head = f"HTTP/1.1 {reply.status} -\r\ncontent-type: {reply.content_type}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode())
        for piece in reply.pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if reply.then == "hold":
            await reader.read()
        if reply.then == "reset":
            writer.transport.abort()
    except (OSError, asyncio.IncompleteReadError):
        pass  # the gateway has left
    finally:
        writer.close()
