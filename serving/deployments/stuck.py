"""Whether an engine that lives is stuck: it has work, and has made no step for longer than a step may take.

A GPU that hangs, or workers that wait for each other, leave processes that look alive and answer health checks.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Stuck:
    """patience: seconds for one step. clock: in seconds, never going back."""

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self._steps = -1
        self._since = clock()

    def look(self, *, steps: int, has_work: bool) -> bool:
        """steps: that the engine has made so far. To be asked every few seconds."""
        now = self._clock()
        if not has_work or steps != self._steps:
            self._steps, self._since = steps, now
        return now - self._since > self._patience
