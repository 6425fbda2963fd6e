"""What a run was worth: who was served as promised, and what that took."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.simulator.request import Request
from loadtests.simulator.world import Run

_SLICE = 10.0
"""Seconds in which 5 % of requests must have been bad for the slice to count as a violation."""


@dataclass(frozen=True)
class Objective:
    """Seconds; the standard class of this product: 2 s to the first token, 100 ms for each further one."""

    ttft: float = 2.0
    tpot: float = 0.1

    def met(self, request: Request) -> bool:
        """From the first try on, and only by a whole answer."""
        if request.first is None or request.end is None or request.first - request.at > self.ttft:
            return False
        return request.end - request.first <= self.tpot * (request.answer - 1)


@dataclass(frozen=True)
class Figures:
    """attainment: good over offered. shed: never answered. retried: answered on a later try. violation: the share of
    time in which more than 5 % were bad; longest: the longest of it, seconds. moves: changes of the target an hour;
    reversals: of these up after down or down after up."""

    attainment: float
    replica_hours: float
    ttft_p50: float
    ttft_p95: float
    ttft_p99: float
    tpot_p95: float
    shed: float
    retried: float
    violation: float
    longest: float
    moves: float
    reversals: float
    fleet_mean: float
    fleet_most: float
    preempted: float


def judged(run: Run, objective: Objective) -> Figures:
    requests = run.requests
    good = [objective.met(request) for request in requests]
    firsts = sorted(math.inf if request.ttft is None else request.ttft for request in requests)
    paces = sorted(tpot for request in requests if (tpot := request.tpot) is not None)
    bad = _bad_slices(requests, good, run.span)
    targets = [change[2] for change in run.changes]
    steps = [after - before for before, after in itertools.pairwise(targets) if after != before]
    turns = sum(one * other < 0 for one, other in itertools.pairwise(steps))
    hours = run.span / 3600
    return Figures(
        attainment=sum(good) / len(good),
        replica_hours=run.replica_seconds / 3600,
        ttft_p50=percentile(firsts, 0.5),
        ttft_p95=percentile(firsts, 0.95),
        ttft_p99=percentile(firsts, 0.99),
        tpot_p95=percentile(paces, 0.95),
        shed=sum(request.end is None for request in requests) / len(requests),
        retried=sum(request.tries > 1 and request.end is not None for request in requests) / len(requests),
        violation=sum(bad) / len(bad),
        longest=_SLICE * max((len(part) for part in "".join("#" if b else " " for b in bad).split()), default=0),
        moves=len(steps) / hours,
        reversals=turns / hours,
        fleet_mean=run.replica_seconds / run.span,
        fleet_most=max(change[1] for change in run.changes),
        preempted=sum(replica.engine.preempted for replica in run.replicas) / len(requests),
    )


def percentile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


def _bad_slices(requests: Sequence[Request], good: Sequence[bool], span: float) -> list[bool]:
    slices = [[0, 0] for _ in range(int(span / _SLICE) + 1)]
    for request, well in zip(requests, good, strict=True):
        one = slices[int(request.at / _SLICE)]
        one[0] += 1
        one[1] += not well
    return [bad > 0.05 * offered for offered, bad in slices]


_T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26, 12: 2.20, 15: 2.14, 20: 2.09}
"""Student's t for a 95 % interval, by number of values."""


@dataclass(frozen=True)
class Spread:
    """A mean over seeds, and half the width of its 95 % confidence interval."""

    mean: float
    half: float


def spread(values: Sequence[float]) -> Spread:
    mean = sum(values) / len(values)
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return Spread(mean, math.nan)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    t = _T95[max(n for n in _T95 if n <= len(values))]
    return Spread(mean, t * math.sqrt(variance / len(values)))
