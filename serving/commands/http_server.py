"""The HTTP server of the runtime that has no proxy before it (`server.runtime: process`): uvicorn, with the limits that
HAProxy has otherwise.
"""

from __future__ import annotations

import asyncio
import math
import resource
from collections import Counter
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.gateway.address_limiter import source_of

HEADER_SECONDS = 10.0
"""In which the headers of a request have to be here."""
_LARGEST_HEAD = 64 * 1024
_FILES_BESIDE = 500


def server_of(app: ASGIApp, *, host: str, port: int, connections: int = 0, keep_alive: float = 90.0) -> uvicorn.Server:
    """connections: of one address at a time; 0 for any number. keep_alive: seconds that a connection may be idle.

    h11 rather than httptools: that sends chunks to HTTP/1.0 clients, who cannot read them, and knows no largest head.
    """
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=limited(connections or _most_files()),
            ws="none",
            h11_max_incomplete_event_size=_LARGEST_HEAD,
            timeout_keep_alive=math.ceil(keep_alive),
            timeout_graceful_shutdown=5,
            log_level="error",  # its warnings are lines for whatever strangers send
            access_log=False,
            server_header=False,
            proxy_headers=False,  # uvicorn would take the word of any client of this machine for where it is
        )
    )


def limited(connections: int, *, seconds: float = HEADER_SECONDS) -> type[H11Protocol]:
    """uvicorn's protocol for one server. connections: of one address. seconds: for the headers of a request."""
    here: Counter[str] = Counter()
    most = _most_files()

    class LimitedProtocol(H11Protocol):
        """Refuses a connection too many, and ends one whose headers come too slowly."""

        _source: str | None = None
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            source = source_of((transport.get_extra_info("peername") or [""])[0])
            if here[source] >= connections or here.total() >= most:
                transport.abort()
                return
            self._source = source
            here[source] += 1
            super().connection_made(transport)
            self._expect_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_is_here()
            if self._source is not None:
                here[self._source] -= 1
                if not here[self._source]:
                    del here[self._source]
                super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._source is not None:
                super().data_received(data)

        def handle_events(self) -> None:
            super().handle_events()
            half_a_head = self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]
            self._expect_head() if half_a_head else self._head_is_here()

        def _expect_head(self) -> None:
            self._deadline = self._deadline or self.loop.call_later(seconds, self.transport.abort)

        def _head_is_here(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return LimitedProtocol


def _most_files() -> int:
    return max(100, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _FILES_BESIDE)
