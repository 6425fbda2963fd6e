"""The HTTP server of the runtime that has no proxy before it (`server.runtime: process`): uvicorn, with the limits that
HAProxy has otherwise.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.gateway.address_limiter import source_of

HEADER_SECONDS = 10.0
"""In which the headers of a request have to be here."""
LARGEST_HEAD = 64 * 1024
_FILES_BESIDE = 500


def server_of(app: ASGIApp, *, host: str, port: int, connections: int) -> uvicorn.Server:
    """connections: of one address at a time; 0 for any number."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=limited(connections or _most_files()),
            ws="none",
            log_level="error",  # its warnings are lines for whatever strangers send
            access_log=False,
            timeout_graceful_shutdown=5,
            proxy_headers=False,  # uvicorn would take the word of any client of this machine for where it is
            server_header=False,
        )
    )


def limited(connections: int, *, seconds: float = HEADER_SECONDS) -> type[HttpToolsProtocol]:
    """uvicorn's protocol for one server. connections: of one address. seconds: for the headers of a request."""
    here: Counter[str] = Counter()
    most = _most_files()

    class LimitedProtocol(HttpToolsProtocol):
        """Refuses a connection too many, and one whose headers come too slowly or are too large."""

        _source: str | None = None
        _head = 0
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
            if self._source is None:
                return
            super().data_received(data)
            if self._deadline is not None:
                self._head += len(data)
                if self._head > LARGEST_HEAD:
                    self.transport.abort()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._expect_head()

        def on_headers_complete(self) -> None:
            self._head_is_here()
            super().on_headers_complete()

        def _expect_head(self) -> None:
            if self._deadline is None:
                self._head = 0
                self._deadline = self.loop.call_later(seconds, self.transport.abort)

        def _head_is_here(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return LimitedProtocol


def _most_files() -> int:
    return max(100, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _FILES_BESIDE)
