"""Structured logs: one JSON line a request, and few others. A field is a name, a count, a time or an outcome."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import IO, Protocol

from serving.telemetry.record import RequestRecord


class RequestLog(Protocol):
    def finished(self, record: RequestRecord) -> None:
        """Write the request's line."""
        ...

    def broke(self, record: RequestRecord, error: BaseException) -> None:
        """Write where an unexpected error came from: type and lines of code, not its text, which may quote input."""
        ...

    def anchored(self, chain: str, seq: int, hash: str) -> None:
        """Write how far a chain of the audit log has come: a tail that is cut off there contradicts the line here."""
        ...


class NoLog:
    """A log that is off."""

    def finished(self, record: RequestRecord) -> None: ...
    def broke(self, record: RequestRecord, error: BaseException) -> None: ...
    def anchored(self, chain: str, seq: int, hash: str) -> None: ...


class JsonLog:
    """Lines of JSON on a stream. Each is written whole, so that several processes can share a file."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    @classmethod
    def on_stdout(cls) -> JsonLog:
        return cls(sys.stdout)

    @classmethod
    def in_file(cls, path: Path) -> JsonLog:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(path.open("a", encoding="utf-8", buffering=1))

    def finished(self, record: RequestRecord) -> None:
        self._write(
            {
                "event": "request",
                "request_id": record.request_id,
                "method": record.method,
                "route": record.route,
                "status": record.status,
                "outcome": record.outcome,
                "tenant": record.tenant,
                "key_id": record.key_id,
                "deployment": record.deployment,
                "stream": record.stream,
                "prompt_tokens": record.prompt_tokens,
                "cached_tokens": record.cached_tokens,
                "completion_tokens": record.completion_tokens,
                "ttft_ms": _milliseconds(record.first_token),
                "tpot_ms": _milliseconds(record.per_token),
                "duration_ms": _milliseconds(record.duration),
            }
        )

    def broke(self, record: RequestRecord, error: BaseException) -> None:
        frames = []
        trace = error.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            frames.append(f"{Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}")
            trace = trace.tb_next
        self._write(
            {
                "event": "internal_error",
                "request_id": record.request_id,
                "route": record.route,
                "error": type(error).__name__,
                "at": frames[-8:],
            }
        )

    def anchored(self, chain: str, seq: int, hash: str) -> None:
        self._write({"event": "audit_checkpoint", "chain": chain, "seq": seq, "hash": hash})

    def _write(self, line: dict[str, object]) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 1_000_000 % 1000:03d}Z"
        self._stream.write(json.dumps({"time": stamp} | line, separators=(",", ":")) + "\n")
        self._stream.flush()


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)
