"""The echo engine as the simulator sees it: slots, prompts that are read one after the other, a set time for a token.

With it the simulator is held against the echo engine's real replicas.
"""

import heapq
from collections import deque
from dataclasses import dataclass

from loadtests.durations import Seconds
from loadtests.simulator.request import Request


@dataclass(frozen=True)
class Echo:
    """slots: requests that run at a time. prefill_rate: tokens a second, of all together. The rest: seconds."""

    slots: int
    prefill_rate: float
    first_token: Seconds
    inter_token: Seconds


class SlotEngine:
    """The echo engine, as an Engine."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self._queue: deque[Request] = deque()
        self._events: list[tuple[float, int, bool, Request]] = []
        """(when, tie, whether it is the last token, whose)."""
        self._running = self._number = self._gone = 0
        self._read_at = 0.0
        self._now = 0.0
        self._decoding: dict[Request, float] = {}
        """Since when, for what is made up to now."""
        self.started: list[Request] = []
        self.read = self._made = self.preempted = 0

    @property
    def waiting(self) -> int:
        return len(self._queue) - self._gone

    @property
    def running(self) -> int:
        return self._running

    @property
    def in_flight(self) -> int:
        return self.waiting + self._running

    kv_used = 0.0

    @property
    def backlog(self) -> int:
        left = max(0.0, self._read_at - self._now) * self._echo.prefill_rate
        return sum(request.prompt for request in self._queue if not request.gone) + round(left)

    def add(self, request: Request) -> None:
        self._queue.append(request)

    def leave(self, request: Request) -> None:
        request.gone = True
        self._gone += request in self._queue

    def begin(self, now: float) -> float | None:
        self._now = now
        while self._queue and self._running < self._echo.slots:
            request = self._queue.popleft()
            if request.gone:
                self._gone -= 1
                continue
            self._running += 1
            self._number += 1
            self._read_at = max(now, self._read_at) + request.prompt / self._echo.prefill_rate
            heapq.heappush(self._events, (self._read_at + self._echo.first_token, self._number, False, request))
        return self._events[0][0] if self._events else None

    def cut(self, now: float) -> float | None:
        before = self._events[0][0]
        after = self.begin(now)
        return after if after != before else None

    def end(self, now: float) -> list[Request]:
        self._now = now
        self.started, done = [], []
        while self._events and self._events[0][0] <= now:
            _, number, last, request = heapq.heappop(self._events)
            if not last:
                self.read += request.prompt
                if request.gone:
                    self._running -= 1
                    continue
                request.first = now
                self.started.append(request)
                self._decoding[request] = now
                ends = now + (request.answer - 1) * self._echo.inter_token
                heapq.heappush(self._events, (ends, number, True, request))
            else:
                request.end = now
                del self._decoding[request]
                self._made += request.answer
                self._running -= 1
                done.append(request)
        return done

    def made_by(self, now: float) -> int:
        under_way = sum(1 + int((now - since) / self._echo.inter_token) for since in self._decoding.values())
        return self._made + under_way
