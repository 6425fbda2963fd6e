"""Spans on their way out: they wait in a queue of a set size, and a thread sends them in batches.

OpenTelemetry's own batching does the same, but tells nobody how many it dropped.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Literal

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

OnSpans = Callable[[Literal["exported", "dropped", "failed"], int], None]
_EVERY_SECONDS = 1.0
_BATCH = 512
_STOP_SECONDS = 3.0
_log = logging.getLogger(__name__)


class Outbox(SpanProcessor):
    """on_spans: told what became of spans, and of how many; from any thread."""

    def __init__(self, exporter: SpanExporter, *, size: int, on_spans: OnSpans, every: float = _EVERY_SECONDS) -> None:
        self._exporter = exporter
        self._size = size
        self._on_spans = on_spans
        self._every = every
        self._waiting: deque[ReadableSpan] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._arrive = True
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        if self._closing or len(self._waiting) >= self._size:
            return self._on_spans("dropped", 1)
        self._waiting.append(span)
        if len(self._waiting) >= _BATCH:
            self._wake.set()

    def shutdown(self) -> None:
        """Send what waits, for seconds at most; a receiver that is away does not keep the process."""
        self._closing = True
        self._wake.set()
        self._thread.join(_STOP_SECONDS)
        self._exporter.shutdown()
        self._thread.join(_STOP_SECONDS)

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True

    def _run(self) -> None:
        last = False
        while not last:
            self._wake.wait(self._every)
            self._wake.clear()
            last = self._closing  # read before the rest is sent: what comes later was refused
            while self._waiting:
                self._send([self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))])

    def _send(self, batch: list[ReadableSpan]) -> None:
        try:
            sent = self._exporter.export(batch) is SpanExportResult.SUCCESS
        except Exception:  # an exporter's bug must not end all traces
            sent = False
        if sent != self._arrive:
            self._arrive = sent
            _log.warning("traces: spans %s", "arrive again" if sent else "do not arrive at their receiver")
        self._on_spans("exported" if sent else "failed", len(batch))


def hush(logger: str) -> None:
    """Exporters write a line for each try, with addresses; the outbox says once that spans do not arrive."""
    logging.getLogger(logger).setLevel(logging.CRITICAL + 1)
