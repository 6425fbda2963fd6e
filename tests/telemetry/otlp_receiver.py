"""A receiver of OTLP over HTTP, on a free port: what a collector is to the product. Keeps the spans it gets."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class Receiver:
    """status: what it answers. bodies: all that arrived, as bytes. spans: by the service that sent them."""

    url: str = ""
    status: int = 200
    bodies: list[bytes] = field(default_factory=list)
    spans: list[tuple[str, Span]] = field(default_factory=list)

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = attributes_of(resource.resource)["service.name"]
            self.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]

    def wait_for(self, count: int, *, name: str = "", seconds: float = 10.0) -> list[Span]:
        """So many spans, or those of this name; the earliest first. Fails when they do not come in time."""
        end = time.monotonic() + seconds
        while True:
            found = [span for _, span in [*self.spans] if name in span.name]
            if len(found) >= count:
                return sorted(found, key=lambda span: span.start_time_unix_nano)
            assert time.monotonic() < end, f"only {[(service, span.name) for service, span in self.spans]} came"
            time.sleep(0.02)


def attributes_of(holder: Any) -> dict[str, Any]:
    """The attributes of a span, an event or a resource."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in holder.attributes}


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if receiver.status == 200 and self.path == "/v1/traces":
                receiver.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(receiver.status if self.path == "/v1/traces" else 404)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
