"""The command: `python -m loadtests.drains` scales in, upgrades a deployment and upgrades the gateway under streams.

The question: does one of them end otherwise than with [DONE], or is one charged other than what its client counted?
Echo replicas under real Ray Serve and HAProxy. So many long streams run at any moment that each change happens to all
of them; where one ends, another begins, so new ones meet each change as well.
"""

import argparse
import asyncio
import collections
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from loadtests.batches.server import ROOT, DrillError
from loadtests.fleet.books import Books, books_of
from loadtests.fleet.server import MODEL, FleetServer
from loadtests.fleet.streams import Ended, streams

NOT_HELD, CANNOT_MEASURE = 2, 3
_RAMP_S = 5.0


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.drains", description=__doc__)
    add = parser.add_argument
    add("--streams", type=int, default=500, help="at a time (default %(default)s)")
    add("--seconds", type=float, default=30.0, help="of each (default %(default)s)")
    add("--inter-token", type=float, default=0.5, help="seconds between tokens (default %(default)s)")
    add("--out", type=Path, default=ROOT / ".clinserve/bench/drains.json", help="where the whole result goes")
    return parser.parse_args(words)


async def drill(
    server: FleetServer, options: argparse.Namespace, say: "Say"
) -> tuple[Sequence[Ended], dict[str, float]]:
    """How each stream ended, and how long each change took."""
    words, took, over = round(options.seconds / options.inter_token), {}, asyncio.Event()

    async def change(name: str, *restart: str) -> None:
        took[name] = await asyncio.to_thread(server.reload, *restart)
        say(f"{name}: {took[name]:.1f} s; {running.running} streams run, {len(running.ended)} have ended")

    async with streams(server.url, server.key, MODEL) as running:
        load = asyncio.create_task(running.always(options.streams, words, ramp=_RAMP_S, until=over))
        await asyncio.sleep(_RAMP_S)
        say(f"{running.running} streams of {options.seconds:.0f} s run")
        server.configure(replicas=2)
        await change("scaled in from 3 to 2")
        await change("deployment upgraded", MODEL)
        await change("gateway upgraded", "gateway")
        over.set()
        await load
        return await running.all_ended(), took


class Say:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    def __call__(self, text: str) -> None:
        self._console.print(f"{time.monotonic() - self._began:5.0f} s  {text}", markup=False)


def held(ended: Sequence[Ended], books: Books) -> bool:
    return all(one.outcome == "ok" for one in ended) and books.exact


def main(words: Sequence[str] | None = None) -> int:
    options, console = arguments(words), Console(highlight=False)
    say = Say(console)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="clinserve-drains-") as folder:
        try:
            with FleetServer(Path(folder), replicas=3, inter_token=options.inter_token) as server:
                say("three echo replicas run")
                ended, took = asyncio.run(drill(server, options, say))
                time.sleep(2.5)  # for the ledger's last records
                books = books_of(ended, server.charged([one.request_id for one in ended]))
        except DrillError as error:
            console.print(f"cannot go on: {error}", style="red", markup=False)
            return CANNOT_MEASURE
    outcomes = dict(collections.Counter(one.outcome for one in ended))
    console.print(f"{len(ended)} streams: {outcomes}; charged: {asdict(books)}")
    document = {
        "streams": outcomes,
        "books": asdict(books),
        "seconds_of_changes": took,
        "options": {name: str(value) for name, value in vars(options).items()},
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
    }
    options.out.write_text(json.dumps(document, indent=1))
    good = held(ended, books)
    console.print("held: every stream ended with [DONE], and was charged what it got" if good else "NOT held")
    return 0 if good else NOT_HELD


if __name__ == "__main__":
    sys.exit(main())
