"""Receivers of audit records: syslog (RFC 5424, over UDP, TCP or TLS with octet counting) and OpenTelemetry logs.

Blocking, for a thread. A record that a receiver has had may come again; it knows it by chain and seq.
"""

from __future__ import annotations

import http.client
import os
import select
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber

_AUDIT = 13  # the facility "log audit"
_INFO = 6
_SECONDS = 10.0
_LARGEST_DATAGRAM = 60_000


@dataclass(frozen=True, slots=True)
class AuditLine:
    """A record as a receiver gets it. body: its JSON, unchanged, so that its hash still fits."""

    chain: str
    seq: int
    at: datetime
    kind: str
    hash: str
    body: str


class AuditReceiver(Protocol):
    def send(self, lines: Sequence[AuditLine]) -> None:
        """Raises OSError when they may not have arrived; then they come again."""

    def close(self) -> None: ...


def rfc5424(line: AuditLine, host: str) -> bytes:
    """https://www.rfc-editor.org/rfc/rfc5424#section-6; the number in the name of the data is that for examples."""
    at = line.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    data = f'[audit@32473 chain="{line.chain}" seq="{line.seq}" hash="{line.hash}"]'
    head = f"<{_AUDIT * 8 + _INFO}>1 {at} {host} clinserve {os.getpid()} {line.kind} {data} "
    return head.encode() + line.body.encode(errors="replace")


class SyslogReceiver:
    """url: udp://, tcp:// or tls://HOST:PORT. ca: whose certificates are trusted; None: the system's."""

    def __init__(self, url: str, *, ca: Path | None = None) -> None:
        parts = urlsplit(url)
        self._scheme, self._host = parts.scheme, parts.hostname or ""
        self._port = parts.port or (6514 if parts.scheme == "tls" else 514)
        self._ca = ca
        self._own = "".join(c for c in socket.gethostname() if "!" <= c <= "~")[:255] or "-"
        self._socket: socket.socket | None = None

    def send(self, lines: Sequence[AuditLine]) -> None:
        try:
            connection = self._connected()
            for line in lines:
                message = rfc5424(line, self._own)
                if self._scheme == "udp":
                    connection.send(message[:_LARGEST_DATAGRAM])
                else:
                    connection.sendall(b"%d %s" % (len(message), message))
            if self._scheme != "udp" and self._has_hung_up(connection):
                raise ConnectionResetError("the receiver has closed the connection")
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is not None and self._scheme != "udp" and self._has_hung_up(self._socket):
            self.close()
        if self._socket is None:
            self._socket = self._connect()
        return self._socket

    def _connect(self) -> socket.socket:
        if self._scheme == "udp":
            family, kind, protocol, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
            datagrams = socket.socket(family, kind, protocol)
            datagrams.connect(address)
            return datagrams
        stream = socket.create_connection((self._host, self._port), timeout=_SECONDS)
        if self._scheme == "tcp":
            return stream
        try:
            context = ssl.create_default_context(cafile=str(self._ca) if self._ca else None)
            return context.wrap_socket(stream, server_hostname=self._host)
        except BaseException:
            stream.close()
            raise

    @staticmethod
    def _has_hung_up(connection: socket.socket) -> bool:
        """A receiver of syslog says nothing: what can be read is its end."""
        return bool(select.select([connection], [], [], 0)[0])


class OtlpReceiver:
    """url: of a receiver of OTLP over HTTP, such as http://collector:4318. headers: such as a token."""

    def __init__(self, url: str, *, ca: Path | None = None, headers: dict[str, str] | None = None) -> None:
        self._url = urlsplit(url)
        self._ca = ca
        self._headers = headers or {}

    def send(self, lines: Sequence[AuditLine]) -> None:
        request = ExportLogsServiceRequest()
        resource = request.resource_logs.add()
        name = resource.resource.attributes.add(key="service.name")
        name.value.string_value = "clinserve"
        scope = resource.scope_logs.add()
        scope.scope.name = "clinserve.audit"
        for line in lines:
            record = scope.log_records.add(
                time_unix_nano=int(line.at.timestamp() * 1_000_000) * 1000,
                severity_number=SeverityNumber.SEVERITY_NUMBER_INFO,
                severity_text="INFO",
                event_name=f"clinserve.audit.{line.kind}",
            )
            record.body.string_value = line.body.encode(errors="replace").decode()
            for key, value in (("audit.chain", line.chain), ("audit.hash", line.hash)):
                record.attributes.add(key=key).value.string_value = value
            record.attributes.add(key="audit.seq").value.int_value = line.seq
        self._post(request.SerializeToString())

    def close(self) -> None: ...

    def _post(self, body: bytes) -> None:
        host, port = self._url.hostname or "", self._url.port
        connection: http.client.HTTPConnection
        if self._url.scheme == "https":
            context = ssl.create_default_context(cafile=str(self._ca) if self._ca else None)
            connection = http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
        try:
            path = f"{self._url.path.rstrip('/')}/v1/logs"
            connection.request("POST", path, body, {"content-type": "application/x-protobuf"} | self._headers)
            status = connection.getresponse().status
        except http.client.HTTPException as error:
            raise ConnectionError(type(error).__name__) from None
        finally:
            connection.close()
        if status // 100 != 2:
            raise ConnectionError(f"status {status}")
