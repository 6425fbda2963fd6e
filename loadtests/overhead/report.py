"""Turns rounds into numbers and a file. Arithmetic only: nothing here starts, measures or draws anything."""

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from loadtests.overhead.client import GAP_UNIT_S
from loadtests.overhead.machine import environment
from loadtests.overhead.peers import BARE, EngineKind
from loadtests.overhead.processes import ENGINE
from loadtests.overhead.rounds import TTFT, WHOLE, Load, Phase, Round, loaded

NOISE_CORES = 0.1
"""CPU taken by others during a window, in cores, above which the report warns."""
MIB = 2**20


def percentile(values: Iterable[float], share: float) -> float:
    """Return a percentile, interpolated linearly between the two samples around it."""
    ordered = sorted(values)
    if not ordered:
        return math.nan
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def percentile_of_counts(counts: Mapping[int, int], share: float) -> float:
    """Return a percentile of values that are given as how often each was seen."""
    rank, seen = share * (sum(counts.values()) - 1), 0
    for value, count in sorted(counts.items()):
        seen += count
        if seen > rank:
            return float(value)
    return math.nan


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
    """How to read one number from a round, and whether peers are compared by ratio or by difference."""

    unit: str
    read: Callable[[Round], float | None]
    compare: Callable[[float, float], float]

    @property
    def comparison(self) -> str:
        return "ratio" if self.compare is _ratio else "added"


@dataclass(frozen=True)
class Value:
    """A metric of one peer, and against the bare engine of the same round."""

    metric: Metric
    here: Spread
    against: Spread | None

    def json(self) -> dict[str, Any]:
        found = {"unit": self.metric.unit} | self.here.json()
        return found | {self.metric.comparison: self.against.json()} if self.against else found


Summary = Mapping[str, Mapping[str, Value]]
"""By peer and metric, for one engine."""


def _ratio(peer: float, bare: float) -> float:
    return peer / bare


def _added(peer: float, bare: float) -> float:
    return peer - bare


def _from(phase: str, read: Callable[[Phase], float | None]) -> Callable[[Round], float | None]:
    return lambda r: read(r.phases[phase]) if phase in r.phases else None


def _ttft_ms(share: float) -> Callable[[Phase], float]:
    return lambda phase: 1e3 * percentile((t.ttft for t in phase.result.timings), share)


def _itl_ms(share: float) -> Callable[[Phase], float | None]:
    return lambda phase: (
        1e3 * GAP_UNIT_S * percentile_of_counts(phase.result.gaps, share) if phase.result.gaps else None
    )


def _cpu_us(phase: Phase) -> float | None:
    split = phase.cpu_us_per_token()
    return None if split is None else sum(split.values())


def _memory(r: Round) -> float | None:
    return sum(size for name, size in r.memory.items() if name != ENGINE) / MIB or None


def metrics(load: Load) -> dict[str, Metric]:
    """Return all that is reported, by name. The TTFT of one stream is that of its own phase, with more requests."""
    found: dict[str, Metric] = {}
    for n in load.streams:
        phase = loaded(n)
        first = TTFT if n == 1 else phase
        found |= {
            throughput(n): Metric("tokens/s", _from(phase, lambda p: p.tokens_per_s), _ratio),
            ttft(n, 50): Metric("ms", _from(first, _ttft_ms(0.50)), _added),
            ttft(n, 99): Metric("ms", _from(first, _ttft_ms(0.99)), _added),
            itl(n, 50): Metric("ms", _from(phase, _itl_ms(0.50)), _added),
            itl(n, 99): Metric("ms", _from(phase, _itl_ms(0.99)), _added),
            cpu(n): Metric("µs/token", _from(phase, _cpu_us), _added),
        }
    return found | {
        REQUESTS: Metric("requests/s", _from(WHOLE, lambda p: p.requests_per_core()), _ratio),
        MEMORY: Metric("MiB", _memory, _added),
    }


REQUESTS, MEMORY = "requests_per_core", "memory"


def throughput(streams: int) -> str:
    return f"throughput_{streams}"


def ttft(streams: int, share: int) -> str:
    return f"ttft_p{share}_{streams}"


def itl(streams: int, share: int) -> str:
    return f"itl_p{share}_{streams}"


def cpu(streams: int) -> str:
    return f"cpu_outside_engine_{streams}"


def summarise(rounds: Sequence[Round], load: Load, engine: EngineKind) -> Summary:
    """Return every number that the rounds have. Peers are compared round by round, never across rounds."""
    here = [r for r in rounds if r.engine == engine]
    peers: dict[str, dict[str, Value]] = {r.peer: {} for r in here}
    for name, metric in metrics(load).items():
        found: dict[str, dict[int, float]] = {}
        for r in here:
            value = metric.read(r)
            if value is not None:
                found.setdefault(r.peer, {})[r.number] = value
        bare = found.get(BARE, {})
        for peer, values in found.items():
            pairs = [metric.compare(value, bare[n]) for n, value in values.items() if n in bare and peer != BARE]
            peers[peer][name] = Value(metric, Spread(list(values.values())), Spread(pairs) if pairs else None)
    return peers


def cpu_split(rounds: Sequence[Round], load: Load, engine: EngineKind) -> dict[str, dict[str, float]]:
    """Return CPU outside the engine by peer and role, in µs per token under load; medians over rounds."""
    found: dict[str, dict[str, list[float]]] = {}
    for r in rounds:
        phase = r.phases.get(loaded(load.reference))
        if r.engine != engine or phase is None:
            continue
        for name, value in (phase.cpu_us_per_token() or {}).items():
            found.setdefault(r.peer, {}).setdefault(name, []).append(value)
    return {peer: {name: median(values) for name, values in split.items()} for peer, split in found.items()}


def warnings(rounds: Sequence[Round]) -> list[str]:
    """Return what a reader has to know before believing the numbers."""
    notes = []
    for r in rounds:
        where = f"{r.engine} {r.peer} round {r.number}"
        for name, phase in r.phases.items():
            cores = phase.foreign_cores
            if cores is not None and cores > NOISE_CORES:
                notes.append(f"{where}, {name}: others used {cores:.2f} cores of this machine")
        if any(phase.cpu is not None and phase.outside_engine() is None for phase in r.phases.values()):
            notes.append(f"{where}: no engine process found (setproctitle?), so no CPU per token")
    return notes


def document(rounds: Sequence[Round], load: Load, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything about a run: what was asked, on what, each single timing, and the summary."""
    engines: list[EngineKind] = list(dict.fromkeys(r.engine for r in rounds))
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": {**settings, "load": dataclasses.asdict(load)},
        "environment": environment(),
        "summary": {
            engine: {
                peer: {name: value.json() for name, value in values.items()}
                for peer, values in summarise(rounds, load, engine).items()
            }
            for engine in engines
        },
        "cpu_us_per_token": {
            engine: {
                peer: {name: _rounded(value) for name, value in split.items()}
                for peer, split in cpu_split(rounds, load, engine).items()
            }
            for engine in engines
        },
        "warnings": warnings(rounds),
        "rounds": [
            {
                "engine": r.engine,
                "peer": r.peer,
                "round": r.number,
                "failure": r.failure,
                "memory_bytes": r.memory,
                "phases": {name: _raw(phase) for name, phase in r.phases.items()},
            }
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
        "frames": Counter(timing.frames for timing in timings),
        "itl_10us": dict(sorted(phase.result.gaps.items())),
    }


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
