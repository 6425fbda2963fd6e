"""A port of their own for metrics: they name tenants, so the API's port shows them to administrators only, and whoever
scrapes without a key does it here, on this machine or inside the pod.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OPENMETRICS = "application/openmetrics-text"
Render = Callable[[str], tuple[bytes, str]]
"""From an Accept header to a page and its content type."""
_log = logging.getLogger(__name__)
_CONNECTIONS = 16
_RETRY_SECONDS = 2.0


def format_of(accept: str) -> str:
    """The one of two formats that an Accept header gets: so a page can be shared by all who ask."""
    return OPENMETRICS if OPENMETRICS in accept else ""


class SharedPages:
    """Pages of metrics, each format rendered at most once in `seconds`, whoever asks. Thread-safe."""

    def __init__(self, render: Render, *, seconds: float) -> None:
        self._render = render
        self._seconds = seconds
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, tuple[bytes, str]]] = {}

    def read(self, accept: str) -> tuple[bytes, str]:
        wanted = format_of(accept)
        with self._lock:
            until, page = self._known.get(wanted, (float("-inf"), (b"", "")))
            if time.monotonic() >= until:
                page = self._render(wanted)
                self._known[wanted] = time.monotonic() + self._seconds, page
            return page


class MetricsServer(ThreadingHTTPServer):
    """Answers GET /metrics, so many connections at a time; it listens once made, `serve_forever` answers.

    Raises OSError where it cannot listen.
    """

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, render: Render, host: str, port: int, *, seconds: float = 1.0) -> None:
        self.pages = SharedPages(render, seconds=seconds)
        self._room = threading.BoundedSemaphore(_CONNECTIONS)
        super().__init__((host, port), _Scrape)

    def process_request(self, request, client_address) -> None:  # type: ignore[no-untyped-def]  # the base class's
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request, client_address) -> None:  # type: ignore[no-untyped-def]
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request, client_address) -> None:  # type: ignore[no-untyped-def]
        """A scraper that hangs up is no news."""


class _Scrape(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = 10.0  # seconds in which a request has to be here: a connection holds one of few places

    def do_GET(self) -> None:  # the base class's name
        if self.path.partition("?")[0] != "/metrics":
            return self.send_error(404)
        body, content_type = self.server.pages.read(self.headers.get("accept", ""))
        self.send_response(200)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """A line for each scrape tells nothing."""


class MetricsListener:
    """A MetricsServer beside a gateway. Where another gateway of this machine has the port, that one answers for both,
    and this one takes over when it ends.
    """

    def __init__(self, render: Render, host: str, port: int, *, seconds: float) -> None:
        self._render = render
        self._host = host
        self._port = port
        self._seconds = seconds
        self._ended = threading.Event()
        self._server: MetricsServer | None = None

    async def start(self) -> None:
        threading.Thread(target=self._listen, name="metrics", daemon=True).start()

    async def close(self) -> None:
        self._ended.set()
        if self._server is not None:
            threading.Thread(target=self._server.shutdown, daemon=True).start()  # it waits for the other thread's loop

    def _listen(self) -> None:
        told = False
        while not self._ended.is_set():
            try:
                self._server = MetricsServer(self._render, self._host, self._port, seconds=self._seconds)
            except OSError as error:
                if not told:
                    _log.warning("metrics: cannot listen on %s:%s yet: %s", self._host, self._port, error.strerror)
                told = True
                self._ended.wait(_RETRY_SECONDS)
                continue
            with self._server:
                if not self._ended.is_set():
                    self._server.serve_forever(poll_interval=0.1)
            return


class NoListener:
    """Metrics are not shown on a port of their own."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...
