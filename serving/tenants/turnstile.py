"""Who may try a store that is away: one request at a time, so that the others need not wait for it."""

from __future__ import annotations

import time
from collections.abc import Callable


class Turnstile:
    """Open while the store answers. After a failure one may enter every `retry` seconds, until one is answered."""

    def __init__(self, retry: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._retry = retry
        self._clock = clock
        self._away_until: float | None = None
        """None while the store answers; else nobody enters before this time."""

    def is_open(self) -> bool:
        return self._away_until is None or self._clock() >= self._away_until

    def enter(self) -> bool:
        """Whoever may enter while the store is away closes the turnstile behind him."""
        if not self.is_open():
            return False
        if self._away_until is not None:
            self._away_until = self._clock() + self._retry
        return True

    def answered(self) -> bool:
        """Was the store away until now?"""
        was_away, self._away_until = self._away_until is not None, None
        return was_away

    def failed(self) -> bool:
        """Is this the first failure?"""
        was_away, self._away_until = self._away_until is not None, self._clock() + self._retry
        return not was_away
