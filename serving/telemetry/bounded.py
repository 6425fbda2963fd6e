"""Labels whose values are not known beforehand, kept to so many."""

from __future__ import annotations

from collections.abc import Iterable

OTHER = "other"


class FirstCome:
    """Gives those named, and the first to come up to `most` in all, a value of their own; the rest share `other`."""

    def __init__(self, named: Iterable[str], *, most: int) -> None:
        self._own = set(named)
        self._most = max(most, len(self._own))

    def of(self, name: str) -> str:
        if name not in self._own:
            if len(self._own) >= self._most:
                return OTHER
            self._own.add(name)
        return name
