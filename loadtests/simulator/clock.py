"""Simulated time: what happens when, in order, ties in the order of asking."""

import heapq
import itertools
from collections.abc import Callable

from loadtests.durations import Seconds


class Clock:
    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._numbers = itertools.count()
        self._recurring = 0

    def at(self, when: float, action: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), action, arguments))

    def every(
        self, period: Seconds, action: Callable[..., bool | None], *arguments: object, first: float = 0.0
    ) -> None:
        """Again and again, as long as anything else is to happen, or until the action returns False."""
        self._recurring += 1
        self.at(self.now + first, self._again, period, action, arguments)

    def _again(self, period: Seconds, action: Callable[..., bool | None], arguments: tuple[object, ...]) -> None:
        if action(*arguments) is False:
            self._recurring -= 1
        else:
            self.at(self.now + period, self._again, period, action, arguments)

    def run(self) -> None:
        while len(self._events) > self._recurring:
            self.now, _, action, arguments = heapq.heappop(self._events)
            action(*arguments)
