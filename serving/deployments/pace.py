"""How many batch lines a second a replica can take beside interactive requests, learnt from what these then wait.

Additive increase, multiplicative decrease (Chiu and Jain, 1989, https://doi.org/10.1016/0169-7552(89)90019-6), on the
time to first token at this replica: of requests that met a line, against those that met none. Only a round of the first
kind changes the pace: where no line was, nothing was tried.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

TOLERATED = 1.25
"""Times that the 90th percentile of time to first token may grow. The promise is 1.5 on the 95th."""
_SLOWEST, _FASTEST = 0.5, 1000.0
_ROUND = 20  # requests beside lines between two looks
_KEPT = 100  # requests without lines to compare with
_NEEDED = 10
_FORGOTTEN = 5  # of those, at each look: what it was like an hour ago is no measure


class Pace:
    """rate: lines a second beside interactive requests; slow until something is known."""

    def __init__(self, rate: float = 1.0) -> None:
        self.rate = rate
        self._alone: deque[float] = deque(maxlen=_KEPT)
        self._beside: list[float] = []

    def waited(self, seconds: float, *, alone: bool) -> None:
        """An interactive request had its first token after so long. alone: no line ran meanwhile."""
        if alone:
            self._alone.append(seconds)
            return
        self._beside.append(seconds)
        if len(self._beside) < _ROUND:
            return
        if self._is_noticed():
            self.rate = max(_SLOWEST, 0.6 * self.rate)
        else:
            self.rate = min(_FASTEST, 1.1 * self.rate + 0.5)
        self._beside.clear()
        for _ in range(min(_FORGOTTEN, len(self._alone))):
            self._alone.popleft()

    def _is_noticed(self) -> bool:
        if len(self._alone) < _NEEDED:
            return True  # there are lines all the time, so it is not known what they cost
        return _percentile_90(self._beside) > TOLERATED * _percentile_90(self._alone)


def _percentile_90(times: Collection[float]) -> float:
    return sorted(times)[int(0.9 * (len(times) - 1))]
