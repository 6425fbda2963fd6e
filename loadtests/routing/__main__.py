"""The command: `python -m loadtests.routing` holds the same conversations under each way of choosing a replica."""

import argparse
import dataclasses
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from loadtests.batches.server import ROOT, DrillError, Server
from loadtests.routing.conversations import Conversation, Turn, conversations, held

NOT_HELD, CANNOT_MEASURE, INTERRUPTED = 2, 3, 130
RULES = ("round-robin", "power-of-two", "prefix")
Say = Callable[[str], None]


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.routing", description=__doc__)
    add = parser.add_argument
    add("--config", type=Path, default=ROOT / "deploy/configs/demo.yaml", help="the product's configuration file")
    add("--out", type=Path, default=ROOT / ".clinserve/bench/routing.json", help="where the whole result goes")
    add("--replicas", type=int, default=2, help="of the model (default %(default)s)")
    add("--patients", type=int, default=30, help="each asked about twice (default %(default)s)")
    add("--visits", type=int, default=10, help="in a record (default %(default)s)")
    add("--turns", type=int, default=4, help="of a conversation (default %(default)s)")
    add("--departments", type=int, default=3, help="with instructions of their own (default %(default)s)")
    add("--people", type=int, default=6, help="who ask at a time (default %(default)s)")
    add("--think", type=float, default=0.5, help="mean seconds before a next question (default %(default)s)")
    add("--cache", type=int, default=160, help="blocks of each replica's KV cache (default %(default)s)")
    add("--only", choices=RULES, help="one of them; the others' last results stay in --out")
    options = parser.parse_args(words)
    if min(options.replicas, options.patients, options.visits, options.turns, options.people, options.cache) <= 0:
        parser.error("counts must be at least 1")
    return options


def configured(options: argparse.Namespace, rule: str, folder: Path) -> Path:
    """The configuration with so many replicas, small caches and this rule. Small: what several replicas hold together
    must matter, as it does with records of thousands of patients.
    """
    tree = yaml.safe_load(options.config.read_text())
    deployment = tree["deployments"][0]
    source = Path(deployment["model"]["source"])
    deployment["model"]["source"] = str((options.config.parent / source).resolve())
    deployment |= {"routing": rule, "replicas": options.replicas}
    deployment["engine"]["num_cpus"] = 0.5
    deployment["engine"]["args"]["num_gpu_blocks_override"] = options.cache
    tree["deployments"] = [deployment]
    file = folder / f"{rule}.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def measured(options: argparse.Namespace, rule: str, asked: Sequence[Conversation], say: Say) -> list[Turn]:
    state = Path(tempfile.mkdtemp(prefix="clinserve-routing-"))
    server = Server(configured(options, rule, state), state, options.out.parent / f"routing-{rule}.log")
    try:
        say(f"{rule}: started in {server.start():.0f} s")
        warm = conversations(0, patients=2, visits=options.visits, turns=2, departments=1)
        held(server.url, server.key, server.model, warm, people=4, think=0, seed=0)
        turns = held(server.url, server.key, server.model, asked, people=options.people, think=options.think, seed=1)
        say(f"{rule}: {len(turns)} turns")
        return turns
    finally:
        server.stop()
        shutil.rmtree(state, ignore_errors=True)


def share(turns: Sequence[Turn]) -> float:
    """Of the prompts' tokens, those that were in a cache."""
    return sum(turn.cached for turn in turns) / sum(turn.prompt for turn in turns)


def table(found: dict[str, list[Turn]]) -> Table:
    head = (
        "routing",
        "turns",
        "prompt tokens",
        "cached",
        "of first turns",
        "of later turns",
        "computed",
        "TTFT p50",
        "p95",
    )
    shown = Table(*head, box=None)
    for rule, turns in found.items():
        first, later = ([turn for turn in turns if (turn.number > 0) == is_later] for is_later in (False, True))
        prompt, cached = sum(turn.prompt for turn in turns), sum(turn.cached for turn in turns)
        times = statistics.quantiles([1000 * turn.seconds for turn in later or first], n=20)
        shares = (f"{share(some):.0%}" if some else "" for some in (turns, first, later))
        shown.add_row(
            rule, str(len(turns)), str(prompt), *shares, str(prompt - cached), *(f"{times[at]:.0f}" for at in (9, 18))
        )
    return shown


def kept(out: Path) -> dict[str, list[Turn]]:
    document = json.loads(out.read_text()) if out.exists() else {"turns": {}}
    return {rule: [Turn(**turn) for turn in turns] for rule, turns in document["turns"].items()}


def main(words: Sequence[str] | None = None) -> int:
    options, console = arguments(words), Console(highlight=False, width=120)
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - began:5.0f} s  {text}", markup=False)

    options.out.parent.mkdir(parents=True, exist_ok=True)
    asked = conversations(
        1, patients=options.patients, visits=options.visits, turns=options.turns, departments=options.departments
    )
    found = kept(options.out) if options.only else {}
    try:
        for rule in [options.only] if options.only else RULES:
            found[rule] = measured(options, rule, asked, say)
    except DrillError as error:
        console.print(f"cannot go on: {error}", style="red", markup=False)
        return CANNOT_MEASURE
    except KeyboardInterrupt:
        return INTERRUPTED
    found = {rule: found[rule] for rule in RULES if rule in found}
    document = {
        "options": {name: str(value) for name, value in vars(options).items()},
        "turns": {rule: [dataclasses.asdict(turn) for turn in turns] for rule, turns in found.items()},
    }
    options.out.write_text(json.dumps(document))
    console.print(table(found))
    best = max(found, key=lambda rule: share(found[rule]))
    return 0 if "prefix" not in found or best == "prefix" else NOT_HELD


if __name__ == "__main__":
    sys.exit(main())
