"""Traces to Azure Monitor: the real exporter against stand-ins for its ingestion and for Entra ID."""

from __future__ import annotations

import gzip
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from serving.azure_traces import azure_exporter
from serving.settings import SettingsError
from serving.telemetry.record import RequestRecord
from serving.telemetry.spans import SpanTraces
from serving.tracing import check_traces
from serving.vault import default_credential
from tests.conftest import settings_of
from tests.test_vault import ACCESS, FEDERATED, StandIn, cloud  # noqa: F401, cloud is a fixture

KEY = "InstrumentationKey=11111111-aaaa-4bbb-8ccc-000000000001"
PROGRAM = """
import asyncio, sys
from serving.telemetry.metrics import NoMetrics
from serving.telemetry.record import RequestRecord
from serving.tracing import build_traces
from tests.conftest import settings_of

settings = settings_of(sys.argv[1], telemetry={"traces": {"azure": "key"}})
traces = build_traces(settings, NoMetrics())
record = RequestRecord(request_id="req_1", method="POST", route="/v1/chat/completions", status=200)
record.about("echo", "chat", stream=True)
record.trace = traces.begin([])
for stage in ("identify", "reserve"):
    record.passed(stage)
record.trace.ask(record)
for stage in ("open", "forward"):
    record.passed(stage)
record.spent(3, 0, 4)
record.duration = record.elapsed()
record.trace.end(record)
asyncio.run(traces.close())
"""


@contextmanager
def ingestion(pem: Path | None = None) -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """Its address, and what it is asked: paths and bodies. pem: speak TLS, and want the token of a sign-in."""
    asked: list[tuple[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            items = [json.loads(line) for line in body.splitlines()] if not body.startswith(b"[") else json.loads(body)
            if pem and self.headers["authorization"] != f"Bearer {ACCESS}":
                return self.send_error(401)
            asked.append((self.path, items))
            answer = json.dumps({"itemsReceived": len(items), "itemsAccepted": len(items), "errors": []}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_GET(self) -> None:
            asked.append((self.path, None))
            self.send_error(404)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if pem:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"{'https' if pem else 'http'}://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_azure_monitor_gets_a_request_with_its_dependency_and_nothing_about_us(tmp_path: Path) -> None:
    """In a process of its own: the exporter starts threads for what it would tell Microsoft, unless told not to."""
    with ingestion() as (url, asked):
        environment = os.environ | {
            "APPLICATIONINSIGHTS_CONNECTION_STRING": f"{KEY};IngestionEndpoint={url}",
            "TMPDIR": str(tmp_path),
            # Whatever it calls beside the stand-in would go here, and fail.
            "HTTPS_PROXY": "http://127.0.0.1:9",
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=60
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert {path for path, _ in asked} == {"/v2.1/track"}
    kinds = {item["data"]["baseType"]: item for _, items in asked for item in items}
    request, dependency = kinds["RequestData"], kinds["RemoteDependencyData"]
    assert request["data"]["baseData"]["name"] == "POST /v1/chat/completions"
    assert dependency["data"]["baseData"]["name"] == "chat echo"
    assert dependency["data"]["baseData"]["properties"]["gen_ai.usage.output_tokens"] == "4"
    assert dependency["tags"]["ai.operation.parentId"] == request["data"]["baseData"]["id"]
    assert dependency["tags"]["ai.operation.id"] == request["tags"]["ai.operation.id"]
    assert request["tags"]["ai.cloud.role"] == "clinserve-gateway"
    assert kinds.keys() <= {"RequestData", "RemoteDependencyData", "MessageData"}, "the stages are messages"
    assert list(tmp_path.glob("*opentelemetry*")) + list(tmp_path.glob("Microsoft*")) == []


@pytest.mark.parametrize(("federated", "told"), [(FEDERATED, ("exported", 1)), ("another", ("failed", 1))])
async def test_spans_arrive_with_the_token_of_a_pods_identity_and_without_one_not_at_all(
    cloud: StandIn,  # noqa: F811
    federated: str,
    told: tuple[str, int],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "federated").write_text(federated)
    seen: list[tuple[str, int]] = []
    with ingestion(tmp_path / "tests.pem") as (url, asked):
        identity = default_credential(seconds=10, known_cloud=False)
        exporter = azure_exporter(f"{KEY};IngestionEndpoint={url}", entra=True, credential=identity)
        traces = SpanTraces(
            [exporter], version="1", ratio=1.0, trust_clients=False, size=9, on_spans=lambda *what: seen.append(what)
        )
        record = RequestRecord(request_id="req_1", method="GET", route="/v1/models", status=200)
        traces.begin([]).end(record)
        await traces.close()
    assert seen == [told] and len(asked) == (told[0] == "exported")
    assert cloud.exchanged[0]["scope"].startswith("https://monitor.azure.com//.default")
    assert url not in caplog.text and federated not in caplog.text


def test_a_missing_connection_string_is_said_before_anything_starts(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, telemetry={"traces": {"azure": "entra"}})
    with pytest.raises(SettingsError, match="APPLICATIONINSIGHTS_CONNECTION_STRING is empty or not set"):
        check_traces(settings, {})
    check_traces(settings, {"APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=..."})
    check_traces(settings_of(tmp_path), {})
