"""The command: `python -m loadtests.hostile` attacks a running product in a hundred ways, one at a time.

The question: does an ordinary caller notice any of it? The product runs as `make serve` starts it; the caller streams,
asks for whole answers, /readyz and /v1/models; the attacker has no key or an ordinary one. The bar: no failure of the
bystander; his TTFT p99 at most twice its quiet value and 50 ms; the gateway's event loop late by at most 100 ms; no
replica restarted; no memory kept; the attacker refused with the right status; all as before within a minute. Exit
status: 0 all held, 2 something did not, 3 it could not be measured.
"""

import argparse
import contextlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from loadtests.batches.server import ROOT, DrillError
from loadtests.drains import Say
from loadtests.hostile.attack import Attack
from loadtests.hostile.attacks import ATTACKS
from loadtests.hostile.drill import Drill
from loadtests.hostile.judged import Found
from loadtests.hostile.product import MODEL, HostileServer
from loadtests.hostile.results import Results
from loadtests.hostile.samples import Samples
from loadtests.hostile.table import in_markdown, on_terminal, row, written

NOT_HELD, CANNOT_MEASURE = 2, 3
_LISTEN_AGAIN = 10
"""Attacks, after which the bystander is alone for a while again: the machine is not the same for half an hour."""


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.hostile", description=__doc__)
    add = parser.add_argument
    add("--engines", choices=("model", "echo"), default="model", help="vLLM with the demo model, or echo replicas")
    add("--rate", type=float, default=5.0, help="the bystander's streams a second (default %(default)s)")
    add("--only", action="append", metavar="NAME", help="this attack or section; may be given more than once")
    add("--quick", action="store_true", help="some of each section")
    add("--list", action="store_true", help="name the attacks and end")
    add("--resume", action="store_true", help="leave out, and keep, what the file of results has already")
    add("--out", type=Path, default=ROOT / ".clinserve/bench/hostile.json", help="where the whole result goes")
    add("--markdown", type=Path, help="a page where the table goes as well, such as docs/hostile.md")
    options = parser.parse_args(words)
    known = {attack.name for attack in ATTACKS} | {attack.section for attack in ATTACKS}
    if unknown := set(options.only or ()) - known:
        parser.error(f"no attack or section is called {', '.join(sorted(unknown))}")
    return options


def chosen(options: argparse.Namespace) -> list[Attack]:
    wanted = set(options.only or ())
    return [
        attack
        for attack in ATTACKS
        if (not wanted or {attack.name, attack.section} & wanted) and (attack.short or not options.quick)
    ]


def attack_all(attacks: Sequence[Attack], options: argparse.Namespace, results: Results, say: Say) -> None:
    """Raises DrillError."""
    found: list[Found] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clinserve-hostile-")))
        server = stack.enter_context(HostileServer(folder, engines=options.engines))
        say("the product runs")
        samples = stack.enter_context(Samples(server.url, server.keys["ward"], MODEL, rate=options.rate))
        drill = Drill(server, samples, say)
        drill.listen(5.0)
        drill.forget()
        drill.listen(30.0)
        for number, attack in enumerate(attacks):
            if number and number % _LISTEN_AGAIN == 0:
                drill.listen(8.0)
            found.append(drill.suffer(attack))
            say("  ".join(row(found[-1], drill.quiet)))
            results.keep(found, drill.quiet)
            if not samples.runs:
                raise DrillError("the bystander's process ended")


def about(options: argparse.Namespace) -> dict[str, str]:
    git = ["git", "describe", "--always", "--dirty=+"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": commit or "unknown",
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, load average {os.getloadavg()[1]:.1f}",
        "engines": options.engines,
        "bystander": f"{options.rate:g} streams a second",
    }


def main(words: Sequence[str] | None = None) -> int:
    options, console = arguments(words), Console(highlight=False, width=220)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(CANNOT_MEASURE))  # through the clean-up: Ray would be left behind
    if options.list:
        for attack in ATTACKS:
            console.print(f"{attack.section:15}  {attack.name:32}  {attack.what}", markup=False)
        return 0
    results = Results(options.out, about(options), earlier=options.resume)
    attacks = [attack for attack in chosen(options) if attack.name not in results.done]
    try:
        if attacks:
            attack_all(attacks, options, results, Say(console))
    except DrillError as error:
        console.print(f"cannot go on: {error}", style="red", markup=False)
        return CANNOT_MEASURE
    console.print(on_terminal(results.runs))
    if options.markdown:
        written(options.markdown, in_markdown(results.runs))
    broken = results.broken
    console.print(f"NOT held: {', '.join(broken)}" if broken else f"held: nobody noticed {len(results.done)} attacks")
    return NOT_HELD if broken else 0


if __name__ == "__main__":
    sys.exit(main())
