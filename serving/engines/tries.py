"""How often, and how long, a request that no replica has taken yet is sent to another."""

from __future__ import annotations

from collections.abc import Callable

from serving.engines.reading import NotTaken

_REACHED = 3
"""Replicas that a request may reach for nothing. Should it be what kills them, more could be the death of a fleet."""
_SECONDS = 15.0
"""From the first failure, with replicas of ours: the dead are off Serve's list by then, and a new one may be on it."""
_PAUSE, _LONGEST_PAUSE = 0.1, 1.0


class Tries:
    """Of one request. ours: the replicas are our own. failed: those that did not take it. first_token_timeout: seconds,
    after which no try may begin. clock: in seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float], *, ours: bool, first_token_timeout: float) -> None:
        self.failed: set[str] = set()
        self._clock = clock
        self._ours = ours
        self._first_token_timeout = first_token_timeout
        self._reached = 0
        self.start_anew()

    def start_anew(self) -> None:
        """There are other replicas now: the request was held until one ran. What it has reached still counts."""
        self.failed.clear()
        self._last = self._clock() + self._first_token_timeout
        self._pause = _PAUSE

    def go_on_after(self, failure: NotTaken, base: str) -> bool:
        """Whether another may be asked, or, where there is none, the same once more."""
        now = self._clock()
        if not self.failed:
            self._last = min(self._last, now + _SECONDS)
        self.failed.add(base)
        # Elsewhere one address stands for all replicas: a connection that is refused says no less than one that breaks.
        self._reached += failure.reached or not self._ours
        return now <= self._last and self._reached < _REACHED

    def pause_before(self, base: str) -> float:
        """Seconds, before one is asked again that has failed."""
        if base not in self.failed:
            return 0.0
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        return pause
