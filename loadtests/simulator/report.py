"""The comparison as text: frontier, points at the tuned knobs, differences at equal hours, ablations."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from loadtests.simulator.judge import Figures, Spread, spread
from loadtests.simulator.study import ABLATIONS, PLAIN, TOLD, Job, Load

Results = Mapping[Job, Figures]
WANTED = 0.95
"""The attainment that is tuned for."""
MORE = 0.99
SHIPPED = 1.0
"""Ours' knob, as the product has it."""


def chosen(results: Results, policies: Iterable[str]) -> dict[str, float]:
    """Each policy's knob with the fewest replica-hours among those that attain what is wanted on every load.

    Where none does, the one that comes nearest on its worst load.
    """
    knobs = {}
    for policy in policies:
        mine = [job for job in results if job.policy == policy]
        offered: dict[float, tuple[float, float]] = {}
        for knob in sorted({job.knob for job in mine}):
            loads = {job.load for job in mine}
            worst = min(_mean(results, mine, load, knob, "attainment") for load in loads)
            hours = sum(_mean(results, mine, load, knob, "replica_hours") for load in loads)
            offered[knob] = (worst, hours)
        enough = {knob: hours for knob, (worst, hours) in offered.items() if worst >= WANTED}
        knobs[policy] = (
            min(enough, key=enough.__getitem__) if enough else max(offered, key=lambda knob: offered[knob][0])
        )
    return knobs


def _mean(results: Results, jobs: Iterable[Job], load: Load, knob: float, name: str) -> float:
    values: list[float] = [getattr(results[job], name) for job in jobs if job.load == load and job.knob == knob]
    return sum(values) / len(values)


def of(results: Results, name: str, policy: str, knob: float, ablation: str = PLAIN) -> Spread:
    """One figure over the seeds."""
    return spread(
        [
            getattr(figures, name)
            for job, figures in results.items()
            if (job.policy, job.knob, job.ablation) == (policy, knob, ablation)
        ]
    )


def knobs_of(results: Results, policy: str, ablation: str = PLAIN) -> list[float]:
    return sorted({job.knob for job in results if job.policy == policy and job.ablation == ablation})


def at_equal_hours(results: Results, ours: float, other: str) -> Spread:
    """Attainment of ours less the other's, in points, where the other's frontier crosses ours' hours; seed by seed."""
    differences = []
    for seed in sorted({job.seed for job in results}):
        mine = next(
            f for j, f in results.items() if (j.policy, j.knob, j.seed, j.ablation) == ("ours", ours, seed, PLAIN)
        )
        theirs = attained(_frontier(results, other, seed), mine.replica_hours)
        differences.append(100 * (mine.attainment - theirs))
    return spread(differences)


def attained(frontier: Sequence[Figures], hours: float) -> float:
    """The best attainment for so many hours: between two settings a straight line, as if one ran each part-time.

    Below the fewest hours of any setting it is that setting's: more than could be had.
    """
    points = sorted((one.replica_hours, one.attainment) for one in frontier)
    at, best = [point[0] for point in points], np.maximum.accumulate([point[1] for point in points])
    return float(np.interp(hours, at, best))


def hours_for(frontier: Sequence[Figures], attainment: float) -> float | None:
    """The fewest hours that attain so much, between two settings on a straight line; None where none does."""
    points = sorted((one.replica_hours, one.attainment) for one in frontier)
    best = np.maximum.accumulate([point[1] for point in points])
    if best[-1] < attainment:
        return None
    return float(np.interp(attainment, best, [point[0] for point in points]))


def table(results: Results, gpus: int, knobs: Mapping[str, float]) -> str:
    """The frontier: each policy at each knob; the tuned one is marked."""
    rows = [
        "| policy | knob | attainment | GPU-hours | TTFT p50 / p95 | TPOT p95 | shed | violated (longest) | moves/h |"
    ]
    rows.append("|---|---|---|---|---|---|---|---|---|")
    for policy in TOLD:
        for knob in knobs_of(results, policy):
            cell = {name: of(results, name, policy, knob) for name in Figures.__dataclass_fields__}
            mark = "**" if knobs.get(policy) == knob else ""
            rows.append(
                f"| {policy} | {mark}{knob:g}{mark} | {mark}{_percent(cell['attainment'])}{mark} "
                f"| {_number(cell['replica_hours'], gpus)} "
                f"| {cell['ttft_p50'].mean:.2f} / {cell['ttft_p95'].mean:.1f} s "
                f"| {1000 * cell['tpot_p95'].mean:.0f} ms | {cell['shed'].mean:.1%} "
                f"| {cell['violation'].mean:.0%} ({cell['longest'].mean:.0f} s) "
                f"| {cell['moves'].mean:.0f} ({cell['reversals'].mean:.0f} turns) |"
            )
    return "\n".join(rows)


def equal_hours(results: Results, gpus: int, knobs: Mapping[str, float]) -> str:
    """Ours less each other one, at ours' hours as tuned and as shipped; and the hours that each needs."""
    settings = sorted({knobs["ours"], SHIPPED})
    heads = [f"points at ours' hours, {knob:g}" for knob in settings]
    heads += [f"GPU-hours for {share:.0%}" for share in (WANTED, MORE)]
    rows = ["| ours less | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for policy in TOLD:
        points = [at_equal_hours(results, knob, policy) for knob in settings]
        cells = ["" if policy == "ours" else f"{one.mean:+.1f} ± {one.half:.1f}" for one in points]
        cells += [_hours(results, policy, gpus, share) for share in (WANTED, MORE)]
        rows.append(f"| {policy} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _hours(results: Results, policy: str, gpus: int, attainment: float) -> str:
    seeds = sorted({job.seed for job in results})
    found = [hours_for(_frontier(results, policy, seed), attainment) for seed in seeds]
    known = [hours for hours in found if hours is not None]
    return (
        _number(spread(known), gpus)
        if len(known) == len(found)
        else f"not in {len(found) - len(known)} of {len(found)}"
    )


def _frontier(results: Results, policy: str, seed: int) -> list[Figures]:
    return [f for j, f in results.items() if (j.policy, j.seed, j.ablation) == (policy, seed, PLAIN)]


def ablations(results: Results, gpus: int, knobs: Mapping[str, float]) -> str:
    """Which assumption makes the result: attainment and GPU-hours at the tuned knobs."""
    shown = [name for name in ABLATIONS if any(job.ablation == name for job in results)]
    rows = ["| policy | " + " | ".join(shown) + " |", "|---|" + "---|" * len(shown)]
    for policy, knob in knobs.items():
        cells = [
            f"{_percent(of(results, 'attainment', policy, knob, name))}, "
            f"{_number(of(results, 'replica_hours', policy, knob, name), gpus)}"
            for name in shown
        ]
        rows.append(f"| {policy} {knob:g} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _percent(value: Spread) -> str:
    return f"{100 * value.mean:.1f} ± {100 * value.half:.1f} %"


def _number(value: Spread, times: float = 1.0) -> str:
    return f"{times * value.mean:.1f} ± {times * value.half:.1f}"
