"""The load of a run: a trace as a larger crowd would have made it, or a made-up hour."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from loadtests.arrivals import Day, OnOff, Pattern, Window
from loadtests.durations import Seconds
from loadtests.simulator.request import Request
from loadtests.traces import Call, read

SYNTHETIC = Path(__file__).parents[1] / "traces" / "synthetic.csv"
_SHIFT = 20.0
"""Seconds (standard deviation) by which a copy of a call comes earlier or later than the call."""


@dataclass(frozen=True)
class Patience:
    """Seconds for which a client waits for a first token: log-normal."""

    median: Seconds = 20.0
    spread: float = 0.5

    def drawn(self, rng: Random) -> float:
        return self.median * math.exp(rng.gauss(0.0, self.spread))


def crowd(calls: Sequence[Call], scale: float, patience: Patience, rng: Random) -> list[Request]:
    """Each call made by `scale` callers, who do not come at the same moment.

    So the trace's swell stays as it is, in the seconds it becomes smoother, as the sum of more callers is. Lengths stay
    together as the trace has them.
    """
    whole, part = divmod(scale, 1)
    span, rows = calls[-1].at, []
    for copy in range(int(whole) + (part > 0)):
        share = 1.0 if copy < whole else part
        for call in calls:
            if share >= 1 or rng.random() < share:
                at = call.at + rng.gauss(0.0, _SHIFT) if copy else call.at
                rows.append((min(max(at, 0.0), span), call))
    rows.sort(key=lambda row: row[0])
    return [
        Request(number, at, call.prompt_tokens, call.answer_tokens, patience.drawn(rng))
        for number, (at, call) in enumerate(rows)
    ]


def made_up(pattern: Pattern, seconds: float, patience: Patience, rng: Random) -> list[Request]:
    """Requests of this pattern, with lengths from the synthetic trace."""
    calls = read(SYNTHETIC)
    requests = []
    for arrival in pattern.arrivals(Window(0.0, seconds, seconds), rng):
        call = rng.choice(calls)
        requests.append(
            Request(arrival.number, arrival.at, call.prompt_tokens, call.answer_tokens, patience.drawn(rng))
        )
    return requests


def day(rate: float) -> Pattern:
    """An hour with a day's wave: half the rate, one and a half times the rate, half again."""
    return Day(low=rate / 2, high=3 * rate / 2)


def bursts(rate: float) -> Pattern:
    """Minutes of quiet, then a minute at three times the load."""
    return OnOff(quiet=rate * 0.7, burst=rate * 2.2, dwell=(240.0, 60.0))
