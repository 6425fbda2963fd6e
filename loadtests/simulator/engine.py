"""One replica's engine: continuous batching step by step, as vLLM schedules it, without a token of text.

Each step computes one token of every request that decodes and as much of the prompts as the budget leaves. Steps that
nothing can change are taken together: their times are a sum, so the result is that of single steps.
"""

import heapq
import math
from collections import deque
from dataclasses import dataclass

from loadtests.simulator.request import Request

_BLOCK = 16
"""Tokens in a block of the KV cache; the last one of each request is half empty on average."""


@dataclass(frozen=True)
class Speed:
    """Seconds of one step.

    Reading the weights (base) and computing prompts (a token: prefill) overlap, so the longer of the two counts. A
    decoding request adds `decode`, each token in the KV cache that it reads `kv`.
    """

    base: float
    prefill: float
    decode: float
    kv: float

    def step(self, prompt_tokens: int, decoding: int, kv_tokens: int) -> float:
        return max(self.base, self.prefill * prompt_tokens) + self.decode * decoding + self.kv * kv_tokens


@dataclass(frozen=True)
class Limits:
    """In vLLM's words max_num_batched_tokens, max_num_seqs and the size of the KV cache, in tokens."""

    budget: int = 2048
    running: int = 256
    kv_tokens: int = 400_000


class BatchingEngine:
    """vLLM's, as an Engine."""

    def __init__(self, speed: Speed, limits: Limits) -> None:
        self._speed = speed
        self._limits = limits
        self._queue: deque[Request] = deque()
        self._prefilling: list[Request] = []
        self._decoding: list[tuple[int, int, Request]] = []
        """A heap by the step in which the last token comes."""
        self._step = self._admitted = self._gone = 0
        self._began = 0.0
        self._steps = 0
        self._chunks: list[tuple[Request, int]] = []
        self._seconds = 0.0
        self.started: list[Request] = []
        self.kv_tokens = self.backlog = self.read = self.made = self.preempted = 0

    @property
    def waiting(self) -> int:
        return len(self._queue) - self._gone

    @property
    def running(self) -> int:
        return len(self._prefilling) + len(self._decoding)

    @property
    def in_flight(self) -> int:
        return len(self._queue) - self._gone + len(self._prefilling) + len(self._decoding)

    @property
    def kv_used(self) -> float:
        return self.kv_tokens / self._limits.kv_tokens

    def add(self, request: Request) -> None:
        request.todo = request.prompt
        self.backlog += request.todo
        self._queue.append(request)

    def leave(self, request: Request) -> None:
        self.backlog -= request.todo
        request.gone = True  # a chunk of it that is being computed is computed
        if request not in self._prefilling:
            self._gone += 1

    def begin(self, now: float) -> float | None:
        limits, budget = self._limits, self._limits.budget - len(self._decoding)
        self._prefilling = [request for request in self._prefilling if not self._dropped(request)]
        chunks = []
        for request in self._prefilling:
            if (take := min(request.todo, budget)) > 0:
                chunks.append((request, take))
                budget -= take
        while self._queue and budget > 0 and self.running < limits.running:
            request = self._queue[0]
            if request.gone:
                self._queue.popleft()
                self._gone -= 1
                continue
            if not self._fits(request):
                break
            self._queue.popleft()
            self._admitted += 1
            request.place = self._admitted
            self.kv_tokens += request.todo
            self._prefilling.append(request)
            take = min(request.todo, budget)
            chunks.append((request, take))
            budget -= take
        self._chunks, self._began = chunks, now
        if not chunks and not self._decoding:
            return None
        room = self._room()
        prompt_tokens = sum(take for _, take in chunks)
        self._seconds = self._speed.step(prompt_tokens, len(self._decoding), self.kv_tokens)
        self._steps = 1 if chunks else min(self._decoding[0][0] - self._step, room)
        return now + self._after(self._steps)

    def cut(self, now: float) -> float | None:
        if self._chunks or self._steps <= 1 or self.running >= self._limits.running:
            return None
        steps = self._steps_until(now)
        if steps >= self._steps:
            return None
        self._steps = steps
        return self._began + self._after(steps)

    def end(self, now: float) -> list[Request]:
        decoding = self._decoding
        self._step += self._steps
        self.kv_tokens += self._steps * len(decoding)
        self.made += self._steps * len(decoding)
        done: list[Request] = []
        self.started = []
        while decoding and decoding[0][0] == self._step:
            done.append(heapq.heappop(decoding)[2])
        for request, take in self._chunks:
            self.read += take
            if request.gone:
                continue
            request.todo -= take
            self.backlog -= take
            if not request.todo:
                self._prefilling.remove(request)
                self._decode(request, now, done)
        for request in done:
            request.end = now
            self.kv_tokens -= request.prompt + request.answer - 1
        return done

    def made_by(self, now: float) -> int:
        if self._chunks or not self._decoding:
            return self.made
        return self.made + (min(self._steps, self._steps_until(now)) - 1) * len(self._decoding)

    def _decode(self, request: Request, now: float, done: list[Request]) -> None:
        if request.first is None:
            request.first = now
            self.started.append(request)
        request.made += 1
        self.made += 1
        left = request.answer - request.made
        if left:
            heapq.heappush(self._decoding, (self._step + left, request.place, request))
        else:
            done.append(request)

    def _dropped(self, request: Request) -> bool:
        if request.gone:
            self.kv_tokens -= request.prompt + request.made
        return request.gone

    def _fits(self, request: Request) -> bool:
        half_blocks = _BLOCK // 2 * (self.running + 1)
        return self.kv_tokens + request.todo + half_blocks <= self._limits.kv_tokens

    def _room(self) -> int:
        """Steps for which the cache has room: at least one, if need be by sending the latest back to the queue."""
        while self._decoding:
            free = self._limits.kv_tokens - self.kv_tokens - _BLOCK // 2 * self.running
            if (steps := free // len(self._decoding)) >= 1 or len(self._decoding) == 1:
                return max(1, steps)
            last = max(range(len(self._decoding)), key=lambda i: self._decoding[i][1])
            self._preempt(last)
        return 1

    def _preempt(self, index: int) -> None:
        """As vLLM does it: its blocks are freed; it comes next, and all that it had is computed again."""
        end, _, request = self._decoding[index]
        self._decoding[index] = self._decoding[-1]
        self._decoding.pop()
        heapq.heapify(self._decoding)
        request.made = request.answer - (end - self._step)
        self.kv_tokens -= request.prompt + request.made - 1
        request.todo = request.prompt + request.made
        self.backlog += request.todo
        self.preempted += 1
        self._queue.appendleft(request)

    def _after(self, steps: int) -> float:
        """Seconds of so many equal steps; the cache grows by a token of each request in each."""
        growth = self._speed.kv * len(self._decoding)
        return steps * self._seconds + growth * steps * (steps - 1) / 2

    def _steps_until(self, now: float) -> int:
        """The first step to end at `now` or later."""
        passed, growth = max(0.0, now - self._began), self._speed.kv * len(self._decoding)
        if growth:
            linear = self._seconds - growth / 2
            steps = (math.sqrt(linear * linear + 2 * growth * passed) - linear) / growth
        else:
            steps = passed / self._seconds
        return max(1, math.ceil(steps - 1e-9))
