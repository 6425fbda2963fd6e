"""The command: `python -m loadtests.faults` kills and hangs parts of the product under load, one after the other.

The question: how many requests are lost, how many are sent to another replica, how long until all is well again, and is
one charged twice? Echo replicas under real Ray Serve and HAProxy; streams come at a steady rate, whatever becomes of
them.
"""

import argparse
import asyncio
import collections
import json
import math
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from loadtests.batches.server import ROOT, DrillError
from loadtests.drains import Say
from loadtests.fleet.books import Books, books_of
from loadtests.fleet.server import MODEL, FleetServer
from loadtests.fleet.streams import Ended, streams

NOT_HELD, CANNOT_MEASURE = 2, 3
_CALM_S = 5.0
_RECOVER_S = 90.0


@dataclass(frozen=True, slots=True)
class Fault:
    """part: as FleetServer.processes calls it. hangs: it stands still, its sockets open, and is not killed."""

    part: str
    hangs: bool = False

    @property
    def name(self) -> str:
        return f"{self.part} {'hung' if self.hangs else 'killed'}"

    def strike(self, victim: psutil.Process) -> None:
        victim.send_signal(signal.SIGSTOP if self.hangs else signal.SIGKILL)


FAULTS = (
    Fault("engine"),
    Fault("engine", hangs=True),
    Fault("gateway"),
    Fault("gateway", hangs=True),
    Fault("haproxy"),
    Fault("controller"),
)
_PARTS = {"engine": 2, "gateway": 2, "haproxy": 1, "controller": 1}


@dataclass(frozen=True, slots=True)
class Found:
    """Of one fault. ended: streams by outcome. retried: sent to another engine replica. failing_s: from the fault until
    the last request that failed had begun. whole_s: until there were as many replicas as before. waited_s: the longest
    until a first token.
    """

    name: str
    ended: dict[str, int]
    retried: int
    failing_s: float
    whole_s: float
    waited_s: float
    books: Books

    @property
    def lost(self) -> int:
        return sum(count for outcome, count in self.ended.items() if outcome != "ok")


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.faults", description=__doc__)
    add = parser.add_argument
    add("--rate", type=float, default=10.0, help="streams a second (default %(default)s)")
    add("--words", type=int, default=20, help="of each (default %(default)s)")
    add("--inter-token", type=float, default=0.2, help="seconds between tokens (default %(default)s)")
    add("--only", action="append", choices=[fault.name for fault in FAULTS], help="these; may be given more than once")
    add("--out", type=Path, default=ROOT / ".clinserve/bench/faults.json", help="where the whole result goes")
    return parser.parse_args(words)


async def suffer(server: FleetServer, fault: Fault, options: argparse.Namespace) -> Found:
    retried, over = server.metric("clinserve_replica_retries_total"), asyncio.Event()
    async with streams(server.url, server.key, MODEL, patience=120.0) as running:
        load = asyncio.create_task(running.steadily(options.words, rate=options.rate, until=over))
        await asyncio.sleep(_CALM_S)
        victim, at = await asyncio.to_thread(server.newest, fault.part), running.now()
        fault.strike(victim)
        whole = await _until_whole(server, fault, victim)
        await asyncio.sleep(_CALM_S)
        over.set()
        await load
        ended = await running.all_ended()
    await asyncio.sleep(2.5)  # for the ledger's last records
    charged = await asyncio.to_thread(server.charged, [one.request_id for one in ended if one.request_id])
    return Found(
        name=fault.name,
        ended=dict(collections.Counter(_end_of(one) for one in ended)),
        retried=round(server.metric("clinserve_replica_retries_total") - retried),
        failing_s=max([0.0, *(one.began - at for one in ended if one.outcome != "ok")]),
        whole_s=whole,
        waited_s=max(one.first - one.began for one in ended if one.first is not None),
        books=books_of(ended, charged),
    )


def _end_of(one: Ended) -> str:
    return f"refused with {one.status}" if one.outcome == "refused" else one.outcome


async def _until_whole(server: FleetServer, fault: Fault, victim: psutil.Process) -> float:
    """Seconds until the victim is gone and each part has its number again."""
    began = time.monotonic()
    while time.monotonic() - began < _RECOVER_S:
        if not victim.is_running() and await asyncio.to_thread(_is_whole, server):
            return time.monotonic() - began
        await asyncio.sleep(0.5)
    if fault.hangs:
        victim.send_signal(signal.SIGCONT)
    return math.inf


def _is_whole(server: FleetServer) -> bool:
    counts = server.replicas()
    enough = all(len(server.processes(part)) >= count for part, count in _PARTS.items())
    return enough and counts.get("running") == _PARTS["engine"] and not counts.get("starting")


def show(console: Console, found: Sequence[Found]) -> None:
    columns = ("fault", "streams", "ok", "lost", "retried", "failing for", "whole after", "longest TTFT", "books")
    table = Table(*columns, box=None)
    for one in found:
        lost = ", ".join(f"{count} {outcome}" for outcome, count in one.ended.items() if outcome != "ok") or "0"
        books = "exact" if one.books.exact else ", ".join(f"{n} {what}" for what, n in asdict(one.books).items() if n)
        seconds = (f"{value:.1f} s" for value in (one.failing_s, one.whole_s, one.waited_s))
        table.add_row(
            one.name, str(sum(one.ended.values())), str(one.ended.get("ok", 0)), lost, str(one.retried), *seconds, books
        )
    console.print(table)


def main(words: Sequence[str] | None = None) -> int:
    options, console = arguments(words), Console(highlight=False, width=160)
    say, found = Say(console), []
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="clinserve-faults-") as folder:
        try:
            with FleetServer(
                Path(folder), replicas=_PARTS["engine"], gateways=_PARTS["gateway"], inter_token=options.inter_token
            ) as server:
                say("two gateways and two echo replicas run")
                for fault in FAULTS:
                    if options.only and fault.name not in options.only:
                        continue
                    found.append(asyncio.run(suffer(server, fault, options)))
                    say(f"{fault.name}: {found[-1].ended}, whole after {found[-1].whole_s:.1f} s")
        except DrillError as error:
            console.print(f"cannot go on: {error}", style="red", markup=False)
            return CANNOT_MEASURE
    show(console, found)
    document = {
        "faults": [asdict(one) | {"lost": one.lost} for one in found],
        "options": {name: str(value) for name, value in vars(options).items()},
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
    }
    options.out.write_text(json.dumps(document, indent=1))
    good = all(one.books.nobody_twice and math.isfinite(one.whole_s) for one in found)
    console.print("held: the fleet was whole again each time, and nobody was charged twice" if good else "NOT held")
    return 0 if good else NOT_HELD


if __name__ == "__main__":
    sys.exit(main())
