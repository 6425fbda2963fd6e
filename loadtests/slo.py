"""The verdict: was the question answered, and is the answer to be believed. Arithmetic on what was measured.

A late client only ever makes latencies longer and attainment smaller, so an objective that was met in spite of it was
met. One that was missed may have been missed by the client: that run is *invalid*, as is one whose load was no longer
the load that was wanted. Exit statuses: 0 met, 2 missed, 3 invalid, 4 the harness failed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal

from loadtests.measured import Measured
from loadtests.metrics import Histogram, Row, Tally
from loadtests.scenario import Flow, Scenario

MET, MISSED, INVALID, HARNESS_ERROR, INTERRUPTED = 0, 2, 3, 4, 130
WORDS = {MET: "MET", MISSED: "MISSED", INVALID: "INVALID"}

LAG_VOIDS_S = 0.25
"""So late, at p99, requests no longer come as scheduled: bursts are gone."""
LAG_S = 0.005
LAG_OF_TTFT = 0.05
CPU_CORES = 0.9
SENT = 0.99
GROWTH = 0.25
"""In-flight may grow by this share of its mean over the window before the server counts as falling behind."""


GROWS = "in-flight does not grow"


@dataclass(frozen=True)
class Check:
    """One condition. subject: the flow, or `client`. kind: what it means when it does not hold: the objective was
    missed; the client may be to blame for what was missed; or nothing can be said. timed: a late client can cause it.
    """

    subject: str
    what: str
    holds: bool
    seen: str
    kind: Literal["objective", "doubt", "validity"]
    timed: bool = False


@dataclass(frozen=True)
class Verdict:
    checks: Sequence[Check]

    @property
    def invalid(self) -> list[Check]:
        """What voids the run. Doubts do when all that was missed may have been missed by the client."""
        blamed = self.missed and all(check.timed for check in self.missed)
        kinds = ("validity", "doubt") if blamed else ("validity",)
        return [check for check in self.checks if check.kind in kinds and not check.holds]

    @property
    def doubts(self) -> list[Check]:
        return [check for check in self.checks if check.kind == "doubt" and not check.holds]

    @property
    def missed(self) -> list[Check]:
        return [check for check in self.checks if check.kind == "objective" and not check.holds]

    @property
    def status(self) -> int:
        return INVALID if self.invalid else MISSED if self.missed else MET

    @property
    def word(self) -> str:
        return WORDS[self.status]


def judge(scenario: Scenario, measured: Measured) -> Verdict:
    """All checks of a run."""
    checks = [_valid(scenario, measured)] if not measured.complete else []
    for flow in scenario.flows:
        tally = measured.tallies.sum(flow=flow.name)
        rows = [row for row in measured.rows if row.flow == flow.name]
        checks += _of_flow(flow, tally, rows, scenario)
    return Verdict([*checks, *_of_client(scenario, measured)])


def _valid(scenario: Scenario, measured: Measured) -> Check:
    done = sum(worker.done for worker in measured.workers.values())
    return Check("client", "every worker reported to the end", False, f"{done} of {measured.expected}", "validity")


def _of_flow(flow: Flow, tally: Tally, rows: Sequence[Row], scenario: Scenario) -> list[Check]:
    if not tally.offered:
        return [Check(flow.name, "was offered", False, "no request in the measured window", "validity")]
    checks = []
    if flow.judged:
        wanted, seen = flow.objective.attainment, tally.attainment
        told = f"{seen:.2%} of {tally.offered:,}"
        # Answers that were refused or broken are not the client's doing, however late it is.
        answered = sum(count for kind, count in tally.kinds.items() if kind in flow.objective.accepts)
        timed = answered / tally.offered >= wanted
        checks.append(Check(flow.name, f"{wanted:.1%} {flow.objective}", seen >= wanted, told, "objective", timed))
        if flow.arrivals.steady:
            growth = falling_behind(rows, scenario.window.start, scenario.window.end)
            told = "steady" if growth is None else f"grew by {growth:.0f} over the window"
            checks.append(Check(flow.name, GROWS, growth is None, told, "objective", timed=True))
    return checks


def _of_client(scenario: Scenario, measured: Measured) -> list[Check]:
    total = measured.tallies.sum()
    if not total.offered:
        return []
    lag = total.times["lag"].percentile(0.99)
    limits = [flow.objective.ttft for flow in scenario.flows if flow.objective.ttft]
    # What matters is whether the client's own lateness could decide on a request's being good.
    allowed = max(LAG_S, LAG_OF_TTFT * min(limits)) if limits else max(LAG_S, 0.05)
    sent = 1 - total.kinds["dropped"] / total.offered
    cpu = max((worker.cpu for worker in measured.workers.values()), default=0.0)
    loop = merged_loop_lag(measured).percentile(0.99)
    late = max(0.02, allowed)

    def check(what: str, holds: bool, seen: str, kind: Literal["doubt", "validity"] = "doubt") -> Check:
        return Check("client", what, holds, seen, kind)

    lag_told = f"{1000 * lag:.1f} ms"
    return [
        check(f"lag p99 ≤ {1000 * allowed:g} ms", _at_most(lag, allowed), lag_told),
        check(f"event loop p99 ≤ {1000 * late:g} ms late", _at_most(loop, late), f"{1000 * loop:.1f} ms"),
        check(f"CPU of a worker ≤ {CPU_CORES:.0%}", cpu <= CPU_CORES, f"{cpu:.0%}"),
        check(f"lag p99 ≤ {1000 * LAG_VOIDS_S:g} ms", _at_most(lag, LAG_VOIDS_S), lag_told, "validity"),
        check(f"{SENT:.0%} of the offered was sent", sent >= SENT, f"{sent:.2%}", "validity"),
    ]


def merged_loop_lag(measured: Measured) -> Histogram:
    merged = Histogram()
    for worker in measured.workers.values():
        merged.merge(worker.loop_lag)
    return merged


def falling_behind(rows: Sequence[Row], start: float, end: float) -> float | None:
    """By how much in-flight grew from `start` to `end`, when that is a trend and not chance; else None.

    A straight line through in-flight at 30 moments. It is a trend when the line rises by a quarter of the mean (and by
    two requests at least) and its slope is more than three standard errors, taken for a third as many independent
    moments, since neighbours are alike.
    """
    moments = [start + (end - start) * (i + 0.5) / 30 for i in range(30)]
    levels = [float(n) for n in in_flight(rows, moments)]
    middle, level = mean(moments), mean(levels)
    spread = sum((at - middle) ** 2 for at in moments)
    slope = sum((at - middle) * (n - level) for at, n in zip(moments, levels, strict=True)) / spread
    rest = sum((n - level - slope * (at - middle)) ** 2 for at, n in zip(moments, levels, strict=True))
    error = math.sqrt(rest / 8 / (spread / 3)) if rest else 0.0
    growth = slope * (end - start)
    return growth if growth > max(2.0, GROWTH * level) and slope > 3 * error else None


def in_flight(rows: Sequence[Row], moments: Sequence[float]) -> list[int]:
    """How many requests were open at each of these moments, counted from their intended times."""
    begins, ends = sorted(row.intended for row in rows), sorted(row.end for row in rows)
    counts, i, j = [], 0, 0
    for at in moments:
        while i < len(begins) and begins[i] <= at:
            i += 1
        while j < len(ends) and ends[j] <= at:
            j += 1
        counts.append(i - j)
    return counts


def jain(shares: Sequence[float]) -> float:
    """Jain's index of fairness: 1 when all are alike, 1/n when one has everything."""
    squares = sum(share**2 for share in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares else math.nan


def line(scenario: Scenario, measured: Measured, verdict: Verdict) -> str:
    """The verdict in one line."""
    judged = [flow for flow in scenario.flows if flow.judged] or list(scenario.flows)
    told = []
    for flow in judged:
        tally = measured.tallies.sum(flow=flow.name)
        limits = f", {flow.objective}" if len(judged) == 1 else ""
        wanted = f"wanted {flow.objective.attainment:.1%}{limits}"
        rate = f" at {tally.offered / scenario.measure:.3g}/s"
        told.append(f"{flow.name} {tally.attainment:.1%} good of {tally.offered:,}{rate} ({wanted})")
    first = measured.tallies.sum(flow=judged[0].name).times["ttft"]
    if first.count:
        told.append(f"TTFT of {judged[0].name} p50 {_ms(first.percentile(0.5))}, p99 {_ms(first.percentile(0.99))}")
    why = verdict.invalid or [check for check in verdict.missed if check.what == GROWS]
    reasons = "".join(f"; {check.subject}: wanted {check.what}, was {check.seen}" for check in why)
    if verdict.doubts and not verdict.invalid and not verdict.missed:
        reasons += f"; in spite of a late client ({verdict.doubts[0].what}: {verdict.doubts[0].seen})"
    return f"{verdict.word}  {scenario.name}  {'; '.join(told)}{reasons}"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


def _at_most(value: float, limit: float) -> bool:
    return math.isnan(value) or value <= limit
