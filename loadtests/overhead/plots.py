"""A run as pictures, one for each engine. Owns matplotlib."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from loadtests.overhead import report
from loadtests.overhead.peers import PEERS
from loadtests.overhead.report import Summary
from loadtests.overhead.rounds import Load

matplotlib.use("Agg")  # no display
COLOURS = {
    "bare": "#4d4d4d",
    "product": "#0b6e99",
    "gateway": "#5ab4d6",
    "ray": "#d95f02",
    "ray-unbatched": "#e9a15b",
    "ray-direct": "#7a9a01",
    "litellm": "#8e44ad",
}


def draw(path: Path, title: str, summary: Summary, split: Mapping[str, Mapping[str, float]], load: Load) -> None:
    """Write one picture: throughput, TTFT and ITL over the number of streams, and where the CPU time goes."""
    figure, axes = plt.subplots(2, 2, figsize=(13, 9), layout="constrained")
    figure.suptitle(title)
    peers = [peer for peer in PEERS if summary.get(peer)]
    _lines(axes[0, 0], "throughput, tokens/s", peers, summary, load, report.throughput)
    _lines(axes[0, 1], "TTFT p50 (solid) and p99 (dotted), ms", peers, summary, load, lambda n: report.ttft(n, 50))
    _lines(axes[0, 1], "", peers, summary, load, lambda n: report.ttft(n, 99), dotted=True)
    _lines(axes[1, 0], "time between tokens, p50 (solid) and p99 (dotted), ms", peers, summary, load, _itl50)
    _lines(axes[1, 0], "", peers, summary, load, lambda n: report.itl(n, 99), dotted=True)
    axes[0, 1].set_yscale("log")
    axes[1, 0].set_yscale("symlog", linthresh=1)  # tokens that come together are 0 ms apart
    axes[1, 0].set_ylim(bottom=0)
    if peers:
        axes[0, 0].legend(fontsize=8)
    _bars(axes[1, 1], f"CPU outside the engine, µs a token, {load.reference} streams", peers, split)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _itl50(streams: int) -> str:
    return report.itl(streams, 50)


def _lines(
    axes: Axes,
    title: str,
    peers: Sequence[str],
    summary: Summary,
    load: Load,
    name: Callable[[int], str],
    *,
    dotted: bool = False,
) -> None:
    for peer in peers:
        points = [(n, summary[peer][name(n)].here) for n in load.streams if name(n) in summary[peer]]
        if not points:
            continue
        at = [n for n, _ in points]
        middle = [spread.median for _, spread in points]
        axes.plot(
            at,
            middle,
            color=COLOURS[peer],
            linestyle=":" if dotted else "-",
            marker="o",
            markersize=4,
            label=None if dotted else PEERS[peer].title,
        )
        if not dotted:  # the range over rounds
            low, high = [min(s.values) for _, s in points], [max(s.values) for _, s in points]
            axes.fill_between(at, low, high, color=COLOURS[peer], alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2)
    axes.set_xticks(load.streams, [str(n) for n in load.streams])
    axes.set_xlabel("concurrent streams")
    axes.grid(visible=True, alpha=0.3)
    if title:
        axes.set_title(title, fontsize=10)


def _bars(axes: Axes, title: str, peers: Sequence[str], split: Mapping[str, Mapping[str, float]]) -> None:
    shown = [peer for peer in reversed(peers) if peer in split]
    roles = sorted({role for peer in shown for role in split[peer]})
    colours = plt.get_cmap("tab20")
    left = dict.fromkeys(shown, 0.0)
    for number, role in enumerate(roles):
        widths = [split[peer].get(role, 0.0) for peer in shown]
        names = [PEERS[peer].name for peer in shown]
        axes.barh(names, widths, left=[left[peer] for peer in shown], color=colours(number), label=role)
        for peer, width in zip(shown, widths, strict=True):
            left[peer] += width
    axes.set_title(title, fontsize=10)
    axes.grid(visible=True, axis="x", alpha=0.3)
    if roles:
        axes.legend(fontsize=8)
