"""The command: which scaling policy serves a trace as promised for the fewest GPU-hours, and how far to believe it.

python -m loadtests.simulator                        the made-up day, ten seeds: about ten minutes on two cores
python -m loadtests.simulator --trace FILE           a real trace; knobs are tuned on the made-up hours only
python -m loadtests.simulator --quick                a glance: a part of the trace, two seeds, in a minute
python -m loadtests.simulator --validate             the simulator's own error, against Ray Serve with echo replicas
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from loadtests import traces
from loadtests.simulator import hardware, plots, report, study
from loadtests.simulator.judge import Figures
from loadtests.simulator.study import ABLATIONS, KNOBS, MADE_UP, Job, Load
from loadtests.traces import TraceError

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / ".clinserve" / "simulator"
ABLATED = ("ours", "ray", "ray-fast")
"""The policies that are worth asking which assumption makes their result."""
FAILED = 4
TUNING_SEED = 1000
"""Seeds for tuning begin here, those of the report at 0."""
Say = Callable[[str], None]


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.simulator", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--trace", help="CSV with time, prompt tokens, answer tokens (default: a made-up day)")
    add(
        "--scale",
        type=float,
        help="callers for each call of the trace (default 4); requests a second without one (default 30)",
    )
    add("--seeds", type=int, default=10, help="runs of each setting (default %(default)s)")
    add("--quick", action="store_true", help="fifteen minutes of the trace, two seeds, no ablations")
    add("--validate", action="store_true", help="replay a short trace on real Ray Serve as well, and compare")
    add("--processes", type=int, default=os.cpu_count() or 1, help="(default: one for each core)")
    add("--out", type=Path, default=OUT, help="folder for results and picture (default .clinserve/simulator)")
    return parser.parse_args(words)


def compare(options: argparse.Namespace, say: Say) -> int:
    """Tune on made-up hours, then report; write everything that was said, every run's figures, and the picture."""
    began = time.monotonic()
    seconds, seeds = (900.0, 2) if options.quick else (3600.0, options.seeds)
    if options.trace:
        traces.read(Path(options.trace))  # its mistakes come before ten minutes of tuning
    load = Load(options.trace or "day", options.scale or (4.0 if options.trace else 30.0), seconds)
    tuning = [Load(name, 30.0, min(seconds, 1800.0)) for name in MADE_UP]
    tuned_on = range(TUNING_SEED, TUNING_SEED + (1 if options.quick else 2))
    tuning_jobs = [Job(one, policy, knob, seed) for one in tuning for policy, knob in _knobs() for seed in tuned_on]
    tuned = _done(tuning_jobs, options.processes, "tuning")
    knobs = report.chosen(tuned, KNOBS)
    jobs = [Job(load, policy, knob, seed) for seed in range(seeds) for policy, knob in _knobs()]
    results = _done(jobs, options.processes, "frontier")
    lines = [*_head(load, seeds, knobs), report.table(results, hardware.GPUS, knobs), ""]
    lines += [report.equal_hours(results, hardware.GPUS, knobs), ""]
    if not options.quick:
        ablated = [
            Job(load, policy, knob, seed, name)
            for name in ABLATIONS[1:]
            for policy, knob in knobs.items()
            if policy in ABLATED
            for seed in range(min(seeds, 4))
        ]
        results |= _done(ablated, options.processes, "ablations")
        lines += [report.ablations(results, hardware.GPUS, {policy: knobs[policy] for policy in ABLATED}), ""]
    lines.append(f"{len(tuning_jobs) + len(results)} runs in {time.monotonic() - began:.0f} s")
    text = "\n".join(lines)
    say(text)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "simulator.md").write_text(text + "\n")
    rows = [
        {"tuning": job in tuned, **asdict(job), **asdict(figures)}
        for job, figures in [*tuned.items(), *results.items()]
    ]
    (options.out / "simulator.json").write_text(json.dumps(rows, indent=1))
    plots.draw(options.out / "frontier.svg", _title(load, seeds), results, hardware.GPUS, knobs)
    say(f"picture: {options.out / 'frontier.svg'}")
    return 0


def _knobs() -> Iterable[tuple[str, float]]:
    return ((policy, knob) for policy, knobs in KNOBS.items() for knob in knobs)


def _done(jobs: Sequence[Job], processes: int, what: str) -> dict[Job, Figures]:
    results = {}
    for job, figures in study.run(jobs, processes):
        results[job] = figures
        print(f"\r\x1b[K{what}: {len(results)} of {len(jobs)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return results


def _head(load: Load, seeds: int, knobs: dict[str, float]) -> list[str]:
    speed, profile = study.speed(), study.profile()
    prompts, tokens = hardware.errors(speed, hardware.timings())
    chosen = ", ".join(f"{policy} {knob:g}" for policy, knob in knobs.items())
    return [
        f"{_title(load, seeds)}; mean ± 95 % interval over seeds",
        f"step: {speed}; error of the fit {prompts:.0%} (prompts), {tokens:.0%} (tokens)",
        f"profile: {profile}",
        f"tuned on made-up hours for {report.WANTED:.0%}: {chosen}",
        "",
    ]


def _title(load: Load, seeds: int) -> str:
    source = (
        f"made-up {load.trace}, {load.scale:g}/s"
        if load.trace in MADE_UP
        else f"{Path(load.trace).stem} x {load.scale:g}"
    )
    return f"{source}, {load.seconds / 60:.0f} minutes, {seeds} seeds"


def main(words: Sequence[str] | None = None) -> int:
    options = arguments(words)
    try:
        if options.validate:
            from loadtests.simulator import validate

            return validate.run(options.out, print)
        return compare(options, print)
    except TraceError as error:
        print(f"ERROR  {error}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
