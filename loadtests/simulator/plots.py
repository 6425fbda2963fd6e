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
matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text: a third of the size
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
    """Attainment over GPU-hours, whole and where it matters; each policy's settings joined in the knob's order."""
    figure, (whole, near) = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained")
    figure.suptitle(title, fontsize=11)
    for axes in (whole, near):
        for policy in TOLD:
            _frontier(axes, policy, results, gpus, knobs)
        axes.set_xlabel("GPU-hours, starting and draining included")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(visible=True, which="both", alpha=0.3)
    whole.set_ylabel("SLO attainment over offered, %")
    whole.legend(fontsize=8)
    least = min(of(results, "replica_hours", "oracle", knob).mean for knob in knobs_of(results, "oracle")) * gpus
    near.set_xlim(0.95 * least, 3.2 * least)
    near.set_ylim(90, 100.5)
    near.xaxis.set_minor_formatter("{x:g}")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _frontier(axes: Axes, policy: str, results: Results, gpus: int, knobs: Mapping[str, float]) -> None:
    settings = knobs_of(results, policy)
    hours = [gpus * of(results, "replica_hours", policy, knob).mean for knob in settings]
    spreads = [of(results, "attainment", policy, knob) for knob in settings]
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
        tuned = settings.index(knobs[policy])
        axes.plot(hours[tuned], 100 * spreads[tuned].mean, "o", color=COLOURS[policy], markersize=9, fillstyle="none")
