"""The command: `python -m loadtests.overhead` measures bare vLLM and the product in turn and says what was added."""

import argparse
import contextlib
import dataclasses
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from loadtests.overhead import report
from loadtests.overhead.rounds import Load, Round, visit
from loadtests.overhead.servers import (
    ROOT,
    BenchError,
    Engine,
    Side,
    Target,
    check_model,
    demo_key,
    read_engine,
    running,
    watch,
)

BELOW_THRESHOLD, CANNOT_MEASURE, INTERRUPTED = 2, 3, 130


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    load = Load()
    parser = argparse.ArgumentParser(prog="python -m loadtests.overhead", description=__doc__)
    add = parser.add_argument
    add("--config", type=Path, default=ROOT / "deploy/configs/demo.yaml", help="the product's configuration file")
    add("--out", type=Path, default=ROOT / ".clinserve/bench/overhead.json", help="where the whole result goes")
    add("--rounds", type=int, default=2, help="alternations of bare and product (default %(default)s)")
    add("--port", type=int, default=8710, help="for the product; bare vLLM takes the next one (default %(default)s)")
    add("--streams", type=int, default=load.streams, help="concurrent streams under load (default %(default)s)")
    add("--requests", type=int, default=load.requests, help="requests per stream under load (default %(default)s)")
    add("--single-requests", type=int, default=load.single_requests, help="whole answers for one stream alone")
    add("--ttft-requests", type=int, default=load.ttft_requests, help="short answers for the TTFT of one stream")
    add("--tokens", type=int, default=load.tokens, help="tokens of each answer (default %(default)s)")
    add("--seed", default="clinserve", help="decides the notes in the prompts; their heads are new in every run")
    add("--only", choices=("bare", "product"), help="measure one side")
    add("--fail-under", type=float, metavar="RATIO", help="exit 2 when the throughput ratio under load is below this")
    running_already = parser.add_argument_group("servers that run already (then they are neither started nor stopped)")
    add = running_already.add_argument
    add("--bare-url", help="bare vLLM, for example http://127.0.0.1:8001")
    add("--bare-pid", type=int, help="its root process on this machine, for CPU per token")
    add("--product-url", help="the product, for example http://127.0.0.1:8000")
    add("--product-pid", type=int, help="its root process on this machine, for CPU per token")
    add("--product-key", help="its key; without it, the demo key file is read")
    options = parser.parse_args(words)
    counts = (options.rounds, options.streams, options.requests, options.single_requests, options.ttft_requests)
    if min(*counts, options.tokens - 1) < 1:
        parser.error("counts must be at least 1, and --tokens at least 2")
    if options.only and options.fail_under is not None:
        parser.error("--fail-under compares two sides; --only measures one")
    return options


def measure(options: argparse.Namespace, say: Callable[[str], None]) -> list[Round]:
    """Return all rounds, measured in the order bare, product, bare, product, so that a drift of the machine shows."""
    rounds: list[Round] = []
    engine = read_engine(options.config)
    sides: tuple[Side, ...] = (options.only,) if options.only else ("bare", "product")
    if not all(options.bare_url if side == "bare" else options.product_url for side in sides):
        check_model(engine)
    for number in range(1, options.rounds + 1):
        for side in sides:

            def say_where(text: str, where: str = f"round {number}/{options.rounds} {side}") -> None:
                say(f"{where}: {text}")

            with target(side, number, engine, options, say_where) as server:
                rounds.append(visit(side, number, server, load_of(options), options.seed, say_where))
    return rounds


@contextlib.contextmanager
def target(
    side: Side, number: int, engine: Engine, options: argparse.Namespace, say: Callable[[str], None]
) -> Iterator[Target]:
    """Yield the server of this side: the one that runs already, or a new one that ends with the round."""
    url, pid = (options.bare_url, options.bare_pid) if side == "bare" else (options.product_url, options.product_pid)
    if url:
        key = "" if side == "bare" else options.product_key or demo_key()
        yield Target(url, engine.name, key, watch(pid) if pid else None)
        return
    log = options.out.parent / f"{side}-{number}.log"
    port = options.port + 1 if side == "bare" else options.port
    say(f"starting, log in {log}")
    with running(side, engine, options.config.resolve(), port, log) as server:
        yield server
        say("stopping")


def load_of(options: argparse.Namespace) -> Load:
    return Load(
        streams=options.streams,
        requests=options.requests,
        single_requests=options.single_requests,
        ttft_requests=options.ttft_requests,
        tokens=options.tokens,
    )


def finish(rounds: Sequence[Round], options: argparse.Namespace, console: Console) -> int:
    """Show and write what was measured, and return the exit status."""
    for note in report.warnings(rounds):
        console.print(f"warning: {note}", style="yellow")
    rows = report.summarise(rounds, options.streams)
    report.show(console, rows, report.cpu_split(rounds))
    settings = {
        "deployment": dataclasses.asdict(read_engine(options.config)),
        "order": [f"{r.side} {r.number}" for r in rounds],
        "seed": options.seed,
        "running_already": bool(options.bare_url or options.product_url),
    }
    report.write(options.out, report.document(rounds, load_of(options), settings))
    console.print(f"written: {options.out}", highlight=False)
    ratio = rows["throughput_loaded"].against
    if options.fail_under is not None and (ratio is None or ratio.median < options.fail_under):
        console.print(f"throughput ratio under load is below {options.fail_under:g}", style="red")
        return BELOW_THRESHOLD
    return 0


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
        return finish(measure(options, say), options, console)
    except BenchError as error:
        console.print(f"cannot measure: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return CANNOT_MEASURE
    except KeyboardInterrupt:
        say("interrupted; everything that was started has been stopped")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
