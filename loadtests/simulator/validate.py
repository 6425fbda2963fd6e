"""The simulator's own error: traces on the real product and in the simulator, figure by figure.

What a machine takes for a start, a token and the way to the engine is measured on the first trace; the second is
simulated with these constants, and nothing of its own but the requests.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from loadtests.arrivals import Day, OnOff, Pattern, Window
from loadtests.metrics import Row
from loadtests.simulator import real
from loadtests.simulator.controller import Hardware, MetricPath
from loadtests.simulator.judge import Objective, percentile, spread
from loadtests.simulator.policies import Ours
from loadtests.simulator.real import Deployment, Seen
from loadtests.simulator.request import Request
from loadtests.simulator.slots import Echo, SlotEngine
from loadtests.simulator.starting import Phase, StartUp
from loadtests.simulator.world import Clients, Gateway, Run, Setup, simulated
from loadtests.traces import Call
from serving.scaling.decision import Goals
from serving.scaling.profile import CapacityProfile

DEPLOYMENT = Deployment(
    Echo(slots=4, prefill_rate=4000.0, first_token=0.0, inter_token=0.02),
    start=5.0,
    ttft_p95=0.5,
    tpot_p95=0.1,
    maximum=5,
    down_after=20.0,
)
_SAID_MORE = 3.0
"""Seconds that the product's own profile of an echo replica adds to its set start."""
_SECONDS, _SEEDS = 150.0, 20
TRACES: dict[str, Pattern] = {
    "wave": Day(low=2.0, high=12.0),  # the constants come from here
    "spikes": OnOff(quiet=2.5, burst=12.0, dwell=(25.0, 15.0)),
}


@dataclass(frozen=True)
class Constants:
    """Of the machine, in seconds. start: what Ray adds to the set start of a replica that starts alone; several on one
    machine take each other's time. door: what gateway and hops add to a first token. token: from one to the next.
    """

    start: float
    door: float
    token: float


@dataclass(frozen=True)
class Compared:
    """One figure: on the real product, and in the simulator over seeds of chance."""

    name: str
    real: float
    simulated: float
    half: float

    @property
    def error(self) -> float:
        return abs(self.simulated - self.real) / self.real if self.real else abs(self.simulated - self.real)


def run(out: Path, say: Callable[[str], None]) -> int:
    """All traces on both sides; the errors as tables, and as JSON beside what was measured."""
    results: dict[str, list[Compared]] = {}
    constants = None
    for name, pattern in TRACES.items():
        seen = real.replayed(DEPLOYMENT, calls(pattern), out / "validation" / name)
        constants = constants or measured(seen)
        results[name] = compared(seen, constants)
        say(told(name, results[name], seen, constants))
    held_out = list(results.values())[-1]
    say(f"mean error over the figures of the last: {sum(one.error for one in held_out) / len(held_out):.0%}")
    tree = {name: [{**vars(one), "error": one.error} for one in rows] for name, rows in results.items()}
    (out / "validation.json").write_text(json.dumps(tree, indent=1))
    return 0


def measured(seen: Seen) -> Constants:
    """The machine's constants, as one run shows them."""
    changes = list(itertools.pairwise(seen.replicas))
    asked, together = next(((there[0], there[2] - here[2]) for here, there in changes if there[2] > here[2]), (0.0, 1))
    up = next((there[0] for here, there in changes if there[1] > here[1]), asked + DEPLOYMENT.start)
    start = max(0.0, up - asked - DEPLOYMENT.start) / together
    rate = DEPLOYMENT.echo.prefill_rate
    ways = sorted(row.ttft - row.prompt_tokens / rate for row in seen.rows if row.ttft is not None)
    paces = sorted(row.tpot for row in seen.rows if row.tpot is not None)
    # Most requests of a calm fleet wait for nothing: the lower quarter is the way alone.
    return Constants(start, percentile(ways, 0.25), percentile(paces, 0.5))


def calls(pattern: Pattern) -> list[Call]:
    """Short chats, as long as the echo engine can make them: an answer is no longer than its prompt."""
    rng, found = Random(11), []
    for arrival in pattern.arrivals(Window(0.0, _SECONDS, _SECONDS), rng):
        prompt = min(400, round(rng.lognormvariate(4.5, 0.5)) + 20)
        found.append(Call(arrival.at, prompt, min(prompt - 10, max(2, round(rng.expovariate(1 / 35))))))
    return found


def compared(seen: Seen, constants: Constants) -> list[Compared]:
    """Each figure of the real run beside those of runs that differ in nothing but chance."""
    span = max(row.intended for row in seen.rows)
    runs = [_figures(*_of_run(simulate(seen.rows, constants, seed))) for seed in range(_SEEDS)]
    there = _figures(*_of_rows(seen, span))
    rows = []
    for name, value in there.items():
        here = spread([one[name] for one in runs])
        rows.append(Compared(name, value, here.mean, here.half))
    return rows


def simulate(rows: Sequence[Row], constants: Constants, seed: int) -> Run:
    """The requests that the rows tell of, on the fleet that they were asked of."""
    ordered = sorted((row for row in rows if row.answer_tokens), key=lambda row: row.intended)
    requests = [Request(n, row.intended, row.prompt_tokens, row.answer_tokens) for n, row in enumerate(ordered)]
    it, echo = DEPLOYMENT, replace(DEPLOYMENT.echo, inter_token=constants.token)
    setup = Setup(
        Hardware(
            lambda: SlotEngine(echo),
            StartUp(node=Phase(it.start), weights=Phase(constants.start, 0.1), at_full_speed=1),
            initial=1,
            minimum=1,
            maximum=it.maximum,
        ),
        MetricPath(1.0, delay=0.1, lost=0.0, period=0.5, look_back=3.0),
        Gateway(door=constants.door),
        Clients(tries=1),
    )
    goals = Goals(ttft_p95=it.ttft_p95, tpot_p95=it.tpot_p95, scale_down_after=it.down_after)
    profile = CapacityProfile(
        prefill_rate=it.echo.prefill_rate,
        decode_rate=it.echo.slots / it.echo.inter_token,
        concurrency=it.echo.slots,
        start_seconds=it.start + _SAID_MORE,
    )
    return simulated(setup, Ours(goals, profile), requests, Random(seed))


Times = list[tuple[float | None, float | None]]


def _of_run(run: Run) -> tuple[Times, float, float]:
    """(TTFT, TPOT) of each request, replica-seconds, most replicas serving."""
    times = [(request.ttft, request.tpot) for request in run.requests]
    return times, run.replica_seconds, max(up for _, up, _ in run.changes)


def _of_rows(seen: Seen, span: float) -> tuple[Times, float, float]:
    times = [(row.ttft if row.kind == "ok" else None, row.tpot) for row in seen.rows]
    looks = [look for look in seen.replicas if 0 <= look[0] <= span]
    seconds = sum(all_ * (after[0] - at) for (at, _, all_), after in itertools.pairwise(looks))
    return times, seconds, max(up for _, up, _ in looks)


def _figures(times: Times, seconds: float, most: float) -> dict[str, float]:
    firsts = sorted(first for first, _ in times if first is not None)
    paces = sorted(pace for _, pace in times if pace is not None)
    goal = Objective(DEPLOYMENT.ttft_p95, DEPLOYMENT.tpot_p95)
    good = [f is not None and f <= goal.ttft and (p is None or p <= goal.tpot) for f, p in times]
    return {
        "TTFT p50, s": percentile(firsts, 0.5),
        "TTFT p95, s": percentile(firsts, 0.95),
        "TPOT p50, s": percentile(paces, 0.5),
        "attainment": sum(good) / len(good),
        "replica-seconds": seconds,
        "most replicas": most,
    }


def told(name: str, rows: Sequence[Compared], seen: Seen, constants: Constants) -> str:
    lines = [
        f"{name}: {len(seen.rows)} requests; simulated with starts of {DEPLOYMENT.start:g} + {constants.start:.1f} s, "
        f"{1000 * constants.door:.0f} ms to the engine, {1000 * constants.token:.1f} ms a token",
        "",
        "| figure | real | simulated | error |",
        "|---|---|---|---|",
        *(f"| {one.name} | {one.real:.3f} | {one.simulated:.3f} ± {one.half:.3f} | {one.error:.0%} |" for one in rows),
        "",
    ]
    return "\n".join(lines)
