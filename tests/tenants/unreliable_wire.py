"""A TCP connection that delays what it is told to delay and loses what it is told to lose."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType


class UnreliableWire:
    """Between clients and a port of this machine. url: where Redis seems to be. lost: how many answers were."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._delayed_word: bytes | None = None
        self._unanswered_word: bytes | None = None
        self._kept: list[tuple[asyncio.StreamWriter, bytes]] = []
        self._connections: set[asyncio.Task[None]] = set()
        self.lost = 0
        self.url = ""

    async def __aenter__(self) -> UnreliableWire:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def delay(self, word: bytes) -> None:
        """Keep back the next thing that is sent with this word, until `deliver`, even if its sender leaves."""
        self._delayed_word = word

    async def deliver(self) -> None:
        for server, data in self._kept:
            server.write(data)
            await server.drain()
        self._kept.clear()

    def lose_answers(self, *, to: bytes) -> None:
        """The next connection that sends this word hears nothing more."""
        self._unanswered_word = to

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server = await asyncio.open_connection("127.0.0.1", self._port)
        unanswered = asyncio.Event()
        directions = self._up(reader, server, unanswered), self._down(server_reader, writer, unanswered)
        self._connections |= {asyncio.create_task(direction) for direction in directions}

    async def _up(self, client: asyncio.StreamReader, server: asyncio.StreamWriter, unanswered: asyncio.Event) -> None:
        with suppress(ConnectionError):
            while data := await client.read(65536):
                if self._unanswered_word and self._unanswered_word in data:
                    self._unanswered_word = None
                    unanswered.set()
                if self._delayed_word and self._delayed_word in data:
                    self._delayed_word = None
                    self._kept.append((server, data))
                else:
                    server.write(data)

    async def _down(
        self, server: asyncio.StreamReader, client: asyncio.StreamWriter, unanswered: asyncio.Event
    ) -> None:
        with suppress(ConnectionError):
            while data := await server.read(65536):
                if unanswered.is_set():
                    self.lost += 1
                else:
                    client.write(data)
        client.close()
