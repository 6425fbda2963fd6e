"""The command: `python -m loadtests.overhead` measures peers in turn, on vLLM and on an engine that costs nothing."""

import argparse
import contextlib
import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import get_args

from rich.console import Console

from loadtests.overhead import machine, plots, report, tables
from loadtests.overhead.engine import check_model, read_engine
from loadtests.overhead.peers import (
    BARE,
    LITELLM,
    PEERS,
    PRODUCT,
    EngineKind,
    Site,
    described,
    litellm_version,
)
from loadtests.overhead.rounds import Load, Round, visit
from loadtests.overhead.servers import ROOT, BenchError, Target, read_key, running, watch

BELOW_THRESHOLD, CANNOT_MEASURE, INTERRUPTED = 2, 3, 130
QUICK = Load(streams=(1, 64), answers=128, ttft_requests=30, tokens=64, whole_requests=3)
ENGINES: tuple[EngineKind, ...] = get_args(EngineKind)
Say = Callable[[str], None]


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    load = Load()
    parser = argparse.ArgumentParser(prog="python -m loadtests.overhead", description=__doc__)
    add = parser.add_argument
    add("--config", type=Path, default=ROOT / "deploy/configs/demo.yaml", help="the product's configuration file")
    add("--out", type=Path, default=ROOT / ".clinserve/bench", help="folder for results, pictures and logs")
    add("--peers", type=_names(PEERS), help=f"of {', '.join(PEERS)} (default: all)")
    add("--engines", type=_names(ENGINES), default=list(ENGINES), help=f"of {', '.join(ENGINES)} (default: both)")
    add("--quick", action="store_true", help="one round, fewer requests and numbers of streams: minutes, no ranges")
    add("--rounds", type=int, help="visits to each peer on each engine (default 2, with --quick 1)")
    add("--streams", type=_numbers, help=f"concurrent streams (default {','.join(map(str, load.streams))})")
    add("--answers", type=int, help=f"at each number of streams (default {load.answers})")
    add("--ttft-requests", type=int, help=f"short answers for the TTFT of one stream (default {load.ttft_requests})")
    add("--tokens", type=int, help=f"tokens of each answer (default {load.tokens})")
    add("--step-ms", type=float, default=10.0, help="time between tokens of the echo engine (default %(default)s)")
    add("--port", type=int, default=8710, help="for what is asked; the next five are used too (default %(default)s)")
    add("--litellm", type=Path, default=LITELLM, help="its command (default: where make bench-litellm puts it)")
    add("--seed", default="clinserve", help="decides the notes in the prompts; their heads are new in every run")
    add("--fail-under", type=float, metavar="RATIO", help="exit 2 when the product's throughput ratio is below this")
    there = parser.add_argument_group("servers that run already, on the first engine (neither started nor stopped)")
    there.add_argument("--url", type=_pair, action="append", default=[], metavar="PEER=URL")
    there.add_argument("--pid", type=_pair, action="append", default=[], metavar="PEER=PID", help="its root process")
    there.add_argument("--key", type=_pair, action="append", default=[], metavar="PEER=KEY")
    options = parser.parse_args(words)
    options.rounds = options.rounds or (1 if options.quick else 2)
    options.peers = options.peers or [name for name, peer in PEERS.items() if peer.quick or not options.quick]
    wanted = load_of(options)
    if min(*wanted.streams, options.rounds, wanted.answers, wanted.ttft_requests, wanted.tokens - 1) < 1:
        parser.error("counts must be at least 1, and --tokens at least 2")
    if options.fail_under is not None and not {BARE, PRODUCT} <= set(options.peers):
        parser.error("--fail-under compares the product with the bare engine; --peers leaves one out")
    return options


def _names(known: Collection[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        wanted = text.split(",")
        if unknown := sorted(set(wanted) - set(known)):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
        return [name for name in known if name in wanted]

    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted({int(number) for number in text.split(",")}))


def _pair(text: str) -> tuple[str, str]:
    peer, found, value = text.partition("=")
    if not found or peer not in PEERS:
        raise argparse.ArgumentTypeError(f"PEER=VALUE, with a peer of {', '.join(PEERS)}")
    return peer, value


def load_of(options: argparse.Namespace) -> Load:
    given = {name: getattr(options, name) for name in ("streams", "answers", "ttft_requests", "tokens")}
    return dataclasses.replace(
        QUICK if options.quick else Load(), **{name: value for name, value in given.items() if value is not None}
    )


def site_of(options: argparse.Namespace) -> Site:
    return Site(
        config=options.config.resolve(),
        engine=read_engine(options.config),
        folder=options.out.resolve(),
        ports=options.port,
        step_ms=options.step_ms,
        litellm=options.litellm,
    )


def order(peers: Sequence[str], number: int) -> list[str]:
    """Return the peers as this round visits them: every second one backwards, so that a drift meets all alike."""
    return list(peers) if number % 2 else list(reversed(peers))


def measure(options: argparse.Namespace, site: Site, say: Say) -> list[Round]:
    """Return all rounds. One stack of servers runs at a time; a peer that fails is a round with its failure."""
    there = dict(options.url)
    peers = [name for name in options.peers if name in there or not PEERS[name].missing(site)]
    if "model" in options.engines and not set(peers) <= there.keys():
        check_model(site.engine)
    rounds: list[Round] = []
    visits = [(n, e, p) for n in range(1, options.rounds + 1) for e in options.engines for p in order(peers, n)]
    for done, (number, engine, peer) in enumerate(visits):

        def say_where(text: str, where: str = f"{done + 1}/{len(visits)} {engine} {peer}, round {number}") -> None:
            say(f"{where}: {text}")

        try:
            with target(peer, number, engine, options, site, say_where) as server:
                rounds.append(visit(engine, peer, number, server, load_of(options), options.seed, say_where))
        except BenchError as error:
            say_where(f"failed: {error}")
            rounds.append(Round(engine, peer, number, failure=str(error)))
    return rounds


@contextlib.contextmanager
def target(
    peer: str, number: int, engine: EngineKind, options: argparse.Namespace, site: Site, say: Say
) -> Iterator[Target]:
    """Yield the server of this peer: the one that runs already, or a new one that ends with the round."""
    there, keys, pids = dict(options.url), dict(options.key), dict(options.pid)
    if peer in there and engine == options.engines[0]:
        key = keys.get(peer) or (read_key(ROOT / ".clinserve/demo.key") if peer == PRODUCT else "")
        yield Target(there[peer], site.engine.name, key, watch(int(pids[peer])) if peer in pids else None)
        return
    log = options.out / f"{engine}-{peer}-{number}.log"
    say(f"starting, log in {log}")
    with running(PEERS[peer].stack(site, engine), log) as server:
        yield server
        say("stopping")


def finish(rounds: Sequence[Round], options: argparse.Namespace, site: Site, console: Console) -> int:
    """Show, draw and write what was measured, and return the exit status."""
    load = load_of(options)
    missing = {
        name: why for name in options.peers if name not in dict(options.url) and (why := PEERS[name].missing(site))
    }
    for note in report.warnings(rounds):
        console.print(f"warning: {note}", style="yellow")
    sheets: list[tables.Sheet] = []
    configurations: dict[EngineKind, dict[str, Sequence[str]]] = {}
    for engine in options.engines:
        summary, split = report.summarise(rounds, load, engine), report.cpu_split(rounds, load, engine)
        failures = {r.peer: tables.outcome(r.failure) for r in rounds if r.engine == engine and r.failure}
        sheets += tables.sheets(engine, summary, missing | failures, load)
        configurations[engine] = {name: described(PEERS[name].stack(site, engine)) for name in summary}
        plots.draw(options.out / f"{engine}.png", tables.ENGINES[engine], summary, split, load)
        for peer, roles in split.items():
            console.print(f"{engine}: {tables.split(peer, roles)}", highlight=False)
    for sheet in sheets:
        tables.show(console, sheet)
    settings = {
        "deployment": dataclasses.asdict(site.engine),
        "order": [f"{r.engine} {r.peer} {r.number}" for r in rounds],
        "step_ms": options.step_ms,
        "seed": options.seed,
        "running_already": dict(options.url),
        "litellm": litellm_version(site),
        "missing": missing,
        "started": configurations,
    }
    report.write(options.out / "overhead.json", report.document(rounds, load, settings))
    facts = [*machine.facts(), litellm_version(site), f"rounds: {options.rounds}", f"{load.tokens} tokens an answer"]
    (options.out / "overhead.md").write_text(tables.markdown(sheets, configurations, facts))
    console.print(f"written: {options.out}/overhead.json, overhead.md, pictures and logs", highlight=False)
    return _verdict(report.summarise(rounds, load, options.engines[0]), load, options.fail_under, console)


def _verdict(summary: report.Summary, load: Load, least: float | None, console: Console) -> int:
    value = summary.get(PRODUCT, {}).get(report.throughput(load.reference))
    if least is not None and (value is None or value.against is None or value.against.median < least):
        console.print(f"the product's throughput ratio under load is below {least:g}", style="red")
        return BELOW_THRESHOLD
    return CANNOT_MEASURE if not any(summary.values()) else 0


def main(words: Sequence[str] | None = None) -> int:
    options = arguments(words)
    console, begin = Console(), time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - begin:6.1f} s  {text}", highlight=False, markup=False, soft_wrap=True)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        say("stopping; once more to kill at once")
        raise KeyboardInterrupt

    # Ctrl-C and kill both unwind, and so stop what was started. Setting the handler also undoes an ignored SIGINT,
    # which a shell gives to its background jobs and which the servers would inherit.
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        site = site_of(options)
        return finish(measure(options, site, say), options, site, console)
    except BenchError as error:
        console.print(f"cannot measure: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return CANNOT_MEASURE
    except KeyboardInterrupt:
        say("interrupted; everything that was started has been stopped")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
