"""`clinserve metrics`: one scrape of all processes of this machine, for machines that run engines and no gateway."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CollectorRegistry

from serving.telemetry.exemplars import Exemplars
from serving.telemetry.exposition import page


def server(directory: Path, host: str, port: int) -> ThreadingHTTPServer:
    """It listens; `serve_forever` answers. directory: where the processes leave their metrics."""
    nothing, none = CollectorRegistry(), Exemplars()

    class Scrape(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the base class's name
            if self.path.partition("?")[0] != "/metrics":
                return self.send_error(404)
            directory.mkdir(parents=True, exist_ok=True)
            body, content_type = page(nothing, none, self.headers.get("accept", ""), directory)
            self.send_response(200)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """A line for each scrape tells nothing."""

    return ThreadingHTTPServer((host, port), Scrape)
