"""The command: `python -m loadtests.batches` kills a server in the middle of batches, and chats beside one."""

import argparse
import contextlib
import dataclasses
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import openai
from rich.console import Console
from rich.table import Table

from loadtests.batches.chats import Round, chat_round, p95
from loadtests.batches.lines import Outcome, Verdict, lines_of, verdict
from loadtests.batches.server import ROOT, DrillError, Server

NOT_HELD, CANNOT_MEASURE, INTERRUPTED = 2, 3, 130
ENDED = ("completed", "failed", "expired", "cancelled")
BATCH_S = 1200.0
LAG_S = 0.005
"""A client that is woken later than that measures itself."""
Say = Callable[[str], None]


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.batches", description=__doc__)
    add = parser.add_argument
    add("--config", type=Path, default=ROOT / "deploy/configs/demo.yaml", help="the product's configuration file")
    add("--out", type=Path, default=ROOT / ".clinserve/bench/batches.json", help="where the whole result goes")
    add("--lines", type=int, default=2000, help="of each batch (default %(default)s)")
    add("--tokens", type=int, default=16, help="longest answer of a line (default %(default)s)")
    add("--rounds", type=int, default=3, help="alternations without and with a batch (default %(default)s)")
    add("--seconds", type=float, default=40.0, help="of each round (default %(default)s)")
    add("--rate", type=float, default=2.0, help="chats a second (default %(default)s)")
    add("--fail-over", type=float, metavar="RATIO", default=1.5, help="of TTFT p95 (default %(default)s)")
    add("--only", choices=("kills", "chats"), help="one half of it")
    options = parser.parse_args(words)
    if min(options.lines, options.tokens, options.rounds, options.seconds, options.rate) <= 0:
        parser.error("counts must be at least 1")
    return options


def submitted(server: Server, content: bytes) -> str:
    file = server.client.files.create(file=("notes.jsonl", content), purpose="batch")
    batch = server.client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    return batch.id


def watched(server: Server, id: str, enough: Callable[[Any], bool]) -> Any:
    """The batch, once it is as far as that. A server that is away is asked again."""
    end = time.monotonic() + BATCH_S
    while time.monotonic() < end:
        with contextlib.suppress(openai.APIConnectionError, openai.InternalServerError):
            batch = server.client.batches.retrieve(id)
            if enough(batch) or batch.status in ENDED:
                return batch
        time.sleep(0.1)
    raise DrillError("a batch did not end")


def run_batch(server: Server, content: bytes, disturb: Callable[[], None] | None, at: int) -> tuple[Outcome, float]:
    """What became of the lines, and in how many seconds. disturb: what happens after `at` lines."""
    began = time.monotonic()
    id = submitted(server, content)
    if disturb is not None:
        batch = watched(server, id, lambda batch: batch.request_counts.completed >= at)
        if batch.status in ENDED:
            raise DrillError("the batch ended before it could be disturbed: give it more lines")
        disturb()
    batch = watched(server, id, lambda batch: False)
    if batch.status != "completed":
        raise DrillError(f"a batch ended as {batch.status}")
    texts = [
        server.client.files.content(file_id).text if file_id else ""
        for file_id in (batch.output_file_id, batch.error_file_id)
    ]
    return Outcome.of(*texts), time.monotonic() - began


def kills(server: Server, options: argparse.Namespace, say: Say) -> dict[str, tuple[Verdict, float]]:
    """Each run's verdict and seconds."""
    content = lines_of(options.lines, server.model, tokens=options.tokens, seed=1)

    def kill_all() -> None:
        say(f"killed {server.kill()} processes; starting again")
        say(f"started in {server.start():.0f} s")

    plans: dict[str, Callable[[], None] | None] = {
        "undisturbed": None,
        "gateway killed": server.kill_gateway,
        "server killed": kill_all,
    }
    found: dict[str, tuple[Verdict, float]] = {}
    known: set[str] = {record["id"] for record in server.ledger()}
    reference: Outcome | None = None
    for name, disturb in plans.items():
        say(f"batch: {name}")
        outcome, seconds = run_batch(server, content, disturb, options.lines // 3)
        reference = reference or outcome
        time.sleep(2.5)  # for the ledger's last records
        # Only lines have answers in files; the rest of the ledger is the drill's own hello.
        ledger = [one for one in server.ledger() if one["id"] not in known and one["completion_tokens"] > 1]
        known |= {record["id"] for record in ledger}
        found[name] = verdict(outcome, reference, options.lines, ledger), seconds
    return found


def chats(server: Server, options: argparse.Namespace, say: Say) -> dict[str, list[Round]]:
    """The rounds, by side; and how far batches came beside them."""
    content = lines_of(20_000, server.model, tokens=options.tokens, seed=2)
    found: dict[str, list[Round]] = {"without": [], "with": []}
    lines = []

    def measure(seed: int, seconds: float = options.seconds) -> Round:
        return chat_round(server.url, server.key, server.model, rate=options.rate, seconds=seconds, seed=seed)

    measure(0, seconds=10)  # to warm up
    for number in range(options.rounds):
        say(f"chats, round {number + 1}: without a batch")
        found["without"].append(measure(number))
        say(f"chats, round {number + 1}: with a batch")
        id = submitted(server, content)
        watched(server, id, lambda batch: batch.request_counts.completed > 50)
        before = server.client.batches.retrieve(id).request_counts
        found["with"].append(measure(number))
        after = server.client.batches.retrieve(id).request_counts
        assert before is not None
        assert after is not None
        lines.append((after.completed - before.completed) / options.seconds)
        server.client.batches.cancel(id)
        watched(server, id, lambda batch: False)
    say(f"lines a second beside the chats: {', '.join(f'{rate:.1f}' for rate in lines)}")
    lag = max(one.lag for rounds in found.values() for one in rounds)
    say(f"the client was woken {1000 * lag:.1f} ms late at most (p99)")
    if lag > LAG_S:
        raise DrillError("the client was late itself: run it as root, or on a machine with less to do")
    return found


def show(
    console: Console, runs: dict[str, tuple[Verdict, float]], times: Mapping[str, Sequence[Sequence[float]]]
) -> None:
    if runs:
        fields = [field.name for field in dataclasses.fields(Verdict)]
        table = Table("batch", "seconds", *fields, box=None)
        for name, (found, seconds) in runs.items():
            table.add_row(name, f"{seconds:.0f}", *(str(getattr(found, field)) for field in fields))
        console.print(table)
    if times["without"]:
        table = Table("TTFT, ms", "chats", "p50", "p95", "p95 of each round", box=None)
        for side, rounds in times.items():
            flat = sorted(one for times in rounds for one in times)
            each = ", ".join(f"{1000 * p95(one):.0f}" for one in rounds)
            row = (str(len(flat)), f"{1000 * flat[len(flat) // 2]:.0f}", f"{1000 * p95(flat):.0f}", each)
            table.add_row(f"{side} a batch", *row)
        console.print(table)
        console.print(f"ratio of p95: {ratio_of(times):.2f}")


def ratio_of(times: Mapping[str, Sequence[Sequence[float]]]) -> float:
    with_, without = ([one for times in times[side] for one in times] for side in ("with", "without"))
    return p95(with_) / p95(without)


def main(words: Sequence[str] | None = None) -> int:
    options, console = arguments(words), Console(highlight=False)
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - began:5.0f} s  {text}", markup=False)

    options.out.parent.mkdir(parents=True, exist_ok=True)
    state = Path(tempfile.mkdtemp(prefix="clinserve-drill-"))
    server = Server(options.config.resolve(), state, options.out.parent / "batches.log")
    runs: dict[str, tuple[Verdict, float]] = {}
    times: dict[str, list[Sequence[float]]] = {"without": [], "with": []}
    try:
        say(f"starting the server; its log is {options.out.parent / 'batches.log'}")
        say(f"started in {server.start():.0f} s")
        if options.only != "chats":
            runs = kills(server, options, say)
        if options.only != "kills":
            times = {side: [one.first_tokens for one in rounds] for side, rounds in chats(server, options, say).items()}
    except DrillError as error:
        console.print(f"cannot go on: {error}", style="red", markup=False)
        return CANNOT_MEASURE
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        server.stop()
        shutil.rmtree(state, ignore_errors=True)
    show(console, runs, times)
    ratio = ratio_of(times) if times["without"] else None
    document = {
        "runs": {name: dataclasses.asdict(found) | {"seconds": seconds} for name, (found, seconds) in runs.items()},
        "ttft_p95_ratio": ratio,
        "first_tokens_s": times,
        "options": {name: str(value) for name, value in vars(options).items()},
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
    }
    options.out.write_text(json.dumps(document, indent=1))
    console.print(f"written: {options.out}")
    held = all(found.every_line_once for found, _ in runs.values()) and (ratio is None or ratio <= options.fail_over)
    return 0 if held else NOT_HELD


if __name__ == "__main__":
    sys.exit(main())
