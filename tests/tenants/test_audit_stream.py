"""The audit log on its way to a SIEM: real receivers on loopback, that go away and come back."""

from __future__ import annotations

import asyncio
import http.server
import json
import re
import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from serving.governance import records_to
from serving.telemetry.siem import OtlpReceiver, SyslogReceiver
from serving.tenants.audit import Record, hash_of
from serving.tenants.audit_anchors import AnchorFolder
from serving.tenants.audit_store import MemoryAudit
from serving.tenants.audit_stream import AuditStream
from tests.local import eventually
from tests.tenants.audit_events import event, logging_to

# RFC 5424, section 6, as its grammar has it: PRIVAL, VERSION, TIMESTAMP, HOSTNAME, APP-NAME, PROCID, MSGID, SD-ELEMENT.
MESSAGE = re.compile(
    rb"<(?P<pri>[0-9]{1,3})>1 "
    rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{1,6}Z "
    rb"[\x21-\x7e]{1,255} [\x21-\x7e]{1,48} [\x21-\x7e]{1,128} [\x21-\x7e]{1,32} "
    rb'\[[\x21\x23-\x3c\x3e-\x5c\x5e-\x7e]{1,32}(?: [a-z]{1,32}="(?:[^"\\\]]|\\["\\\]])*")*\] '
    rb"(?P<text>.*)",
    re.DOTALL,
)


class Syslog:
    """Takes frames of RFC 6587 (octet counting), and stops at anything else."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.port = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        owner = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while length := self._length():
                    match = MESSAGE.fullmatch(self.rfile.read(length))
                    assert match and int(match["pri"]) == 13 * 8 + 6
                    owner.texts.append(match["text"].decode())

            def _length(self) -> int:
                digits = b""
                while (one := self.rfile.read(1)) not in (b"", b" "):
                    digits += one
                return int(digits or b"0")

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = daemon_threads = True

        with Server(("127.0.0.1", self.port), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            yield
            server.shutdown()
            thread.join()


@contextmanager
def collector(requests: list[ExportLogsServiceRequest]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            requests.append(ExportLogsServiceRequest.FromString(body))
            self.send_response(200 if self.path == "/v1/logs" else 404)
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class Place:
    def __init__(self, folder: Path) -> None:
        self.store, self.folder = MemoryAudit(), folder
        self.anchors = AnchorFolder(folder / "anchors")

    def write(self, *numbers: int) -> None:
        with logging_to(self.store, self.folder / "spool", anchors=self.anchors) as log:
            for number in numbers:
                log.record(event(number))

    def stream(self, receiver: Any, **options: Any) -> AuditStream:
        receivers = {"siem": records_to(receiver) if hasattr(receiver, "send") else receiver}
        return AuditStream(self.store, self.anchors, self.folder / "anchors", receivers, every=0.02, **options)

    def hashes(self) -> set[str]:
        return {record.hash for record in self.store.records()}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.write(1, 2, 3)
    return place


async def test_each_record_reaches_syslog_whole_so_that_its_hash_still_fits(place: Place) -> None:
    syslog = Syslog()
    with syslog.listening():
        stream = place.stream(SyslogReceiver(f"tcp://127.0.0.1:{syslog.port}"))
        await stream.start()
        await eventually(lambda: {hash_of(text) for text in syslog.texts} == place.hashes())
        place.write(4)  # another process of this machine
        await eventually(lambda: {hash_of(text) for text in syslog.texts} == place.hashes())
        await stream.close()
    assert len(syslog.texts) == len(place.hashes())


async def test_a_receiver_that_was_away_gets_all_that_it_missed_from_the_database(place: Place) -> None:
    syslog, failures = Syslog(), list[str]()
    with syslog.listening():
        pass
    stream = place.stream(SyslogReceiver(f"tcp://127.0.0.1:{syslog.port}"), on_failed=failures.append)
    await stream.start()
    await eventually(lambda: len(failures) > 0)
    await asyncio.to_thread(place.write, 4, 5)
    with syslog.listening():
        await eventually(lambda: {hash_of(text) for text in syslog.texts} == place.hashes())
        await stream.close()


async def test_who_starts_again_goes_on_where_the_stream_had_come_to(place: Place) -> None:
    sent: list[Record] = []

    def take(records: Sequence[Record]) -> None:
        sent.extend(records)

    for number in (4, 5):
        stream = place.stream(take)
        await stream.start()
        await eventually(lambda: {record.hash for record in sent} == place.hashes())
        await stream.close()
        place.write(number)
    assert len(sent) == len({record.hash for record in sent})


async def test_of_two_processes_of_a_machine_one_sends(place: Place) -> None:
    sent: list[Record] = []

    def take(records: Sequence[Record]) -> None:
        sent.extend(records)

    streams = [place.stream(take) for _ in range(2)]
    for stream in streams:
        await stream.start()
    await eventually(lambda: {record.hash for record in sent} == place.hashes())
    await asyncio.sleep(0.1)
    for stream in streams:
        await stream.close()
    assert len(sent) == len(place.hashes())


async def test_a_collector_gets_records_as_opentelemetry_logs(place: Place) -> None:
    requests: list[ExportLogsServiceRequest] = []
    with collector(requests) as url:
        stream = place.stream(OtlpReceiver(url))
        await stream.start()
        await eventually(lambda: len(requests) > 0)
        await stream.close()
    logs = [one for r in requests for resource in r.resource_logs for s in resource.scope_logs for one in s.log_records]
    assert {hash_of(one.body.string_value) for one in logs} == place.hashes()
    assert {one.event_name for one in logs} >= {"clinserve.audit.inference", "clinserve.audit.opened"}


def test_datagrams_hold_one_message_each(place: Place) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(5)
        sender = SyslogReceiver(f"udp://127.0.0.1:{receiver.getsockname()[1]}")
        records = list(place.store.records())
        records_to(sender)(records)
        for record in records:
            match = MESSAGE.fullmatch(receiver.recv(65536))
            assert match and json.loads(match["text"])["seq"] == record.seq
        sender.close()
