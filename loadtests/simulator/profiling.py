"""What one simulated replica can do: its capacity profile, found by trying, and the replicas that a load fills."""

import heapq
import math
from collections.abc import Sequence

from loadtests.simulator.engine import BatchingEngine, Limits, Speed
from loadtests.simulator.judge import Objective, percentile
from loadtests.simulator.request import Request
from loadtests.traces import Call
from serving.scaling.profile import CapacityProfile

_SECONDS = 240.0
_WARM_UP = 40.0


_STREAM, _LONG, _READERS = Call(0.0, 64, 64), Call(0.0, 400, 1), 4
"""What `clinserve profile` asks: as many tokens as it has words, whatever the users will ask."""


def profiled(speed: Speed, limits: Limits, goal: Objective, start: float) -> CapacityProfile:
    """Closed loops on one replica: rates with the batch full, and the most users at whom 95 % meet the goal."""
    low, high = 1, limits.running
    while low < high:
        middle = (low + high + 1) // 2
        requests, _, _ = _closed_loop(speed, limits, _STREAM, middle)
        low, high = (middle, high) if _within(requests, goal) else (low, middle - 1)
    _, _, made = _closed_loop(speed, limits, _STREAM, limits.running)
    _, read, _ = _closed_loop(speed, limits, _LONG, _READERS)
    return CapacityProfile(prefill_rate=read, decode_rate=made, concurrency=low, start_seconds=start)


def _within(requests: Sequence[Request], goal: Objective) -> bool:
    firsts = sorted(math.inf if request.first is None else request.first - request.at for request in requests)
    paces = sorted(request.tpot for request in requests if request.tpot is not None)
    return percentile(firsts, 0.95) <= goal.ttft and percentile(paces, 0.95) <= goal.tpot


def _closed_loop(speed: Speed, limits: Limits, call: Call, users: int) -> tuple[list[Request], float, float]:
    """So many users for four minutes, who come one after the other at first: requests, tokens a second read and made.

    What is within the first part, and what has no answer at the end, does not count.
    """
    engine, now, number, ends = BatchingEngine(speed, limits), 0.0, 0, None
    coming = [user * _WARM_UP / 2 / users for user in range(users)]
    requests: list[Request] = []
    read = made = 0
    heapq.heapify(coming)
    while now < _SECONDS:
        if coming and (ends is None or coming[0] <= ends):
            now = heapq.heappop(coming)
            request = Request(number, now, call.prompt_tokens, call.answer_tokens)
            number += 1
            requests.append(request)
            engine.add(request)
            ends = engine.begin(now) if ends is None else engine.cut(now) or ends
            continue
        assert ends is not None
        if now < _WARM_UP <= ends:
            read, made = engine.read, engine.made
        now = ends
        for _ in engine.end(now):
            heapq.heappush(coming, now)
        ends = engine.begin(now)
    seconds = _SECONDS - _WARM_UP
    kept = [request for request in requests if request.at >= _WARM_UP and request.end is not None]
    return kept, (engine.read - read) / seconds, (engine.made - made) / seconds


def needs(requests: Sequence[Request], speed: Speed, goal: Objective, step: float) -> list[float]:
    """Replicas that the load fills, for each `step` seconds, of replicas that just keep the goal for each token.

    What a request costs beyond the steps that are taken anyway is spread over the time in which it would be answered.
    """
    free = (goal.tpot - speed.base) / goal.tpot
    span = requests[-1].at
    bins = [0.0] * (int(span / step) + 2)
    for request in requests:
        each = speed.decode + speed.kv * (request.prompt + request.answer / 2)
        cost = (speed.prefill * request.prompt + each * request.answer) / free
        lasts = max(step, request.answer * goal.tpot)
        first, count = int(request.at / step), math.ceil(lasts / step)
        for place in range(first, min(first + count, len(bins))):
            bins[place] += cost / (count * step)
    return bins
