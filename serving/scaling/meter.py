"""From what an engine counts to the signals that it reports: additions per step, the arithmetic once a second."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection

from serving.scaling.signals import ReplicaSignals

_RATES_SECONDS = 10.0
_TIMES_SECONDS = 30.0
"""What is older says how it was."""
_MOST_TIMES = 1000


class Meter:
    """Counts of one replica. Read it about once a second: the rates are those between the readings."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._decoded = 0
        self._prefilled = 0
        self._readings: deque[tuple[float, int, int]] = deque([(clock(), 0, 0)])
        self._first_tokens: _Recent = deque(maxlen=_MOST_TIMES)
        self._per_token: _Recent = deque(maxlen=_MOST_TIMES)

    def decoded(self, tokens: int) -> None:
        self._decoded += tokens

    def prefilled(self, tokens: int) -> None:
        self._prefilled += tokens

    def first_token(self, seconds: float) -> None:
        """A request had its first token so long after it came."""
        self._first_tokens.append((self._clock(), seconds))

    def per_token(self, seconds: float) -> None:
        """A request that has ended took so long from token to token."""
        self._per_token.append((self._clock(), seconds))

    def read(self, *, running: int, waiting: int, kv_cache: float, prefill_backlog: int) -> ReplicaSignals:
        now = self._clock()
        self._readings.append((now, self._decoded, self._prefilled))
        while len(self._readings) > 2 and self._readings[1][0] <= now - _RATES_SECONDS:
            self._readings.popleft()
        then, decoded, prefilled = self._readings[0]
        seconds = max(now - then, 0.001)
        return ReplicaSignals(
            running=running,
            waiting=waiting,
            kv_cache=kv_cache,
            prefill_backlog=prefill_backlog,
            decode_rate=(self._decoded - decoded) / seconds,
            prefill_rate=(self._prefilled - prefilled) / seconds,
            ttft_p95=_p95(self._first_tokens, now),
            tpot_p95=_p95(self._per_token, now),
        )


_Recent = deque[tuple[float, float]]


def _p95(times: _Recent, now: float) -> float | None:
    while times and times[0][0] < now - _TIMES_SECONDS:
        times.popleft()
    return percentile_95([seconds for _, seconds in times]) if times else None


def percentile_95(values: Collection[float]) -> float:
    return sorted(values)[int(0.95 * (len(values) - 1))]
