"""How many batch lines a second a replica can take beside interactive requests, learnt from what these then wait.

Additive increase, multiplicative decrease (Chiu and Jain, 1989, https://doi.org/10.1016/0169-7552(89)90019-6), on the
time to first token at this replica: requests that met no line say what it is without batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

TOLERATED = 1.25
"""Times that the 90th percentile of time to first token may grow. The promise is 1.5 on the 95th."""
_SLOWEST, _FASTEST = 0.5, 1000.0
_ROUND = 20  # requests between two looks
_NEEDED = 10  # requests without lines before there is anything to compare with


class Pace:
    """rate: lines a second beside interactive requests."""

    def __init__(self, rate: float = 2.0) -> None:
        self.rate = rate
        self._alone: deque[float] = deque(maxlen=5 * _ROUND)
        self._lately: list[float] = []

    def waited(self, seconds: float, *, alone: bool) -> None:
        """An interactive request had its first token after so long. alone: no line ran meanwhile."""
        if alone:
            self._alone.append(seconds)
        self._lately.append(seconds)
        if len(self._lately) < _ROUND:
            return
        if len(self._alone) < _NEEDED:
            self._slow_down()  # there are lines all the time, so it is not known what they cost
        elif _percentile_90(self._lately) > TOLERATED * _percentile_90(self._alone):
            self._slow_down()
        else:
            self.rate = min(_FASTEST, 1.1 * self.rate + 0.5)
        self._lately.clear()

    def _slow_down(self) -> None:
        self.rate = max(_SLOWEST, 0.6 * self.rate)


def _percentile_90(times: Collection[float]) -> float:
    return sorted(times)[int(0.9 * (len(times) - 1))]
