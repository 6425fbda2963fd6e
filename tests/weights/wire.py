"""A TCP connection to Azurite that counts what comes down, and stops or breaks where a test wants it to."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from typing import Self

_WAIT_SECONDS = 60.0


class Wire:
    """Between clients and a port of this machine. down: bytes that came from there."""

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._hold_at: int | None = None
        self._break_at: int | None = None
        self._go = threading.Event()
        self._refusing = False
        self._counting = threading.Lock()
        self.reached = threading.Event()
        self.down = 0
        wire = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                wire._connect(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._go.set()
        self._server.shutdown()
        self._server.server_close()

    def hold_at(self, count: int) -> None:
        """Nothing more comes down after so many bytes, until `release`; then `reached` is set."""
        self._hold_at = self.down + count

    def break_at(self, count: int) -> None:
        """After so many bytes one connection breaks."""
        self._break_at = self.down + count

    def refuse(self) -> None:
        """What is held breaks, and no connection comes about, until `release`."""
        self._refusing = True
        self._go.set()

    def release(self) -> None:
        self._hold_at, self._refusing = None, False
        self._go.set()

    def _connect(self, client: socket.socket) -> None:
        if self._refusing:
            return _end(client)
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._upstream)) as server:
            threading.Thread(target=_pump, args=(client, server), daemon=True).start()
            while data := server.recv(65536):
                if self._hold_at is not None and self.down >= self._hold_at:
                    self.reached.set()
                    self._go.wait(_WAIT_SECONDS)
                if self._refusing:
                    break
                client.sendall(data)
                with self._counting:
                    self.down += len(data)
                    broken = self._break_at is not None and self.down >= self._break_at
                    self._break_at = None if broken else self._break_at
                if broken:
                    self.reached.set()
                    break
        _end(client)


def _pump(client: socket.socket, server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := client.recv(65536):
            server.sendall(data)
    _end(server)


def _end(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
