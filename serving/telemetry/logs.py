"""Structured logs: one JSON line a request, and few others. A field is a name, a count, a time or an outcome.

Levels: a request that failed or broke is an error, one that was refused or limited a warning, all others info.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

from serving.telemetry.record import RequestRecord, Result
from serving.telemetry.rotated import RotatedFile

Level = Literal["info", "warning", "error"]
_LEVELS: dict[Result, Level] = {
    "ok": "info", "left": "info", "limited": "warning", "refused": "warning", "failed": "error",
}  # fmt: skip
_ORDER: tuple[Level, ...] = ("info", "warning", "error")


class Stream(Protocol):
    def write(self, text: str, /) -> int: ...
    def flush(self) -> None: ...


class RequestLog(Protocol):
    def finished(self, record: RequestRecord) -> None:
        """Write the request's line."""
        ...

    def broke(self, record: RequestRecord, error: BaseException) -> None:
        """Write where an unexpected error came from: type and lines of code, not its text, which may quote input."""
        ...

    def anchored(self, chain: str, seq: int, hash: str) -> None:
        """Write how far a chain of the audit log has come: a tail that is cut off there contradicts the line here.
        Whatever the level.
        """
        ...


class NoLog:
    """A log that is off."""

    def finished(self, record: RequestRecord) -> None: ...
    def broke(self, record: RequestRecord, error: BaseException) -> None: ...
    def anchored(self, chain: str, seq: int, hash: str) -> None: ...


class JsonLog:
    """Lines of JSON on a stream. Each is written whole, so that several processes can share a file.

    level: requests below it have no line. share: of the requests at level info, how many have one; more than this is
    never left out. draw: a number from 0 to 1. on_lost: told of each line that could not be written.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        level: Level = "info",
        share: float = 1.0,
        addresses: bool = True,
        draw: Callable[[], float] = random.random,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._stream = stream
        self._lowest = _ORDER.index(level)
        self._share = share
        self._addresses = addresses
        self._draw = draw
        self._on_lost = on_lost

    @classmethod
    def on_stdout(
        cls,
        *,
        level: Level = "info",
        share: float = 1.0,
        addresses: bool = True,
        on_lost: Callable[[], None] = lambda: None,
    ) -> JsonLog:
        return cls(sys.stdout, level=level, share=share, addresses=addresses, on_lost=on_lost)

    @classmethod
    def in_file(
        cls,
        path: Path,
        *,
        size: int = 2**27,
        keep: int = 10,
        level: Level = "info",
        share: float = 1.0,
        addresses: bool = True,
        on_lost: Callable[[], None] = lambda: None,
    ) -> JsonLog:
        """size, keep: as of RotatedFile."""
        file = RotatedFile(path, size=size, keep=keep)
        return cls(file, level=level, share=share, addresses=addresses, on_lost=on_lost)

    def finished(self, record: RequestRecord) -> None:
        level = _LEVELS[record.result]
        if _ORDER.index(level) < self._lowest or (level == "info" and self._draw() >= self._share):
            return
        self._write(
            {
                "level": level,
                "event": "request",
                "request_id": record.request_id,
                "trace_id": record.trace.trace_id,
                "span_id": record.trace.span_id,
                "method": record.method,
                "route": record.route,
                "status": record.status,
                "outcome": record.outcome,
                "tenant": record.tenant,
                "key_id": record.key_id,
                "key_prefix": record.key_prefix,
                "address": record.address if self._addresses else "",
                "deployment": record.deployment,
                "adapter": record.adapter,
                "stream": record.stream,
                "prompt_tokens": record.prompt_tokens,
                "cached_tokens": record.cached_tokens,
                "completion_tokens": record.completion_tokens,
                "tokens_estimated": record.estimated,
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
                "level": "error",
                "event": "internal_error",
                "request_id": record.request_id,
                "trace_id": record.trace.trace_id,
                "span_id": record.trace.span_id,
                "route": record.route,
                "error": type(error).__name__,
                "at": frames[-8:],
            }
        )

    def anchored(self, chain: str, seq: int, hash: str) -> None:
        self._write({"level": "info", "event": "audit_checkpoint", "chain": chain, "seq": seq, "hash": hash})

    def _write(self, line: dict[str, object]) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 1_000_000 % 1000:03d}Z"
        try:
            self._stream.write(json.dumps({"time": stamp} | line, separators=(",", ":")) + "\n")
            self._stream.flush()
        except OSError:  # a full disk, a reader that left: what the line is about went well or not without it
            self._on_lost()


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)
