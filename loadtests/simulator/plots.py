"""The frontier as a picture. Owns matplotlib."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from loadtests.simulator.report import Results, knobs_of, of
from loadtests.simulator.study import TOLD

matplotlib.use("Agg")  # no display
matplotlib.rcParams["svg.hashsalt"] = "clinserve"  # equal results are equal files
COLOURS = {
    "ours": "#0b6e99",
    "ray": "#d95f02",
    "queue": "#8e44ad",
    "queue-kv": "#c39bd3",
    "ray-fast": "#e9a15b",
    "static": "#4d4d4d",
    "oracle": "#7a9a01",
}


def draw(path: Path, title: str, results: Results, gpus: int, knobs: Mapping[str, float]) -> None:
    """Attainment over GPU-hours, and the share of time in violation; each policy's settings joined by a line."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
    figure.suptitle(title, fontsize=11)
    for policy in TOLD:
        _frontier(left, policy, "attainment", results, gpus, knobs)
        _frontier(right, policy, "violation", results, gpus, knobs)
    left.set_ylabel("SLO attainment over offered, %")
    right.set_ylabel("time with more than 5 % bad, %")
    for axes in (left, right):
        axes.set_xlabel("GPU-hours, starting and draining included")
        axes.grid(visible=True, alpha=0.3)
    left.legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _frontier(axes: Axes, policy: str, name: str, results: Results, gpus: int, knobs: Mapping[str, float]) -> None:
    settings = knobs_of(results, policy)
    points = sorted((of(results, "replica_hours", policy, k).mean * gpus, k) for k in settings)
    hours = [at for at, _ in points]
    spreads = [of(results, name, policy, knob) for _, knob in points]
    axes.errorbar(
        hours,
        [100 * one.mean for one in spreads],
        yerr=[100 * one.half for one in spreads],
        color=COLOURS[policy],
        linestyle="--" if policy in ("oracle", "static") else "-",
        marker="o",
        markersize=4,
        capsize=2,
        label=f"{policy} ({TOLD[policy][1]})",
    )
    if policy in knobs:
        tuned = next(i for i, (_, knob) in enumerate(points) if knob == knobs[policy])
        axes.plot(hours[tuned], 100 * spreads[tuned].mean, "o", color=COLOURS[policy], markersize=9, fillstyle="none")
