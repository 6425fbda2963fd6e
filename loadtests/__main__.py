"""The command: what load a server carries, as a verdict.

    python -m loadtests list                                 which question each scenario answers
    python -m loadtests chat --url http://... --key-file F   run one; the first line of output is the verdict
    python -m loadtests find-capacity chat                   the highest rate that meets the objective
    python -m loadtests worker --master HOST                 be a load generator for a run on another machine
    python -m loadtests report FOLDER                        write a run's report anew
    python -m loadtests answers [FOLDER]                     the last answer of each scenario, as a table

Exit status: 0 objective met, 2 missed, 3 the run is invalid (the client was the bottleneck), 4 the harness failed.
"""

import argparse
import dataclasses
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests import answers, capacity, probe, report, results, runs, scenario, slo
from loadtests.durations import seconds
from loadtests.measured import Measured
from loadtests.plan import Overrides, Plan, Server, keys_in
from loadtests.probe import ProbeError
from loadtests.runs import Fleet, RunError
from loadtests.scenario import Scenario, ScenarioError
from loadtests.slo import HARNESS_ERROR, INTERRUPTED, INVALID, MET, MISSED
from loadtests.traces import TraceError

COMMANDS = ("list", "find-capacity", "worker", "report", "answers")
OUT = runs.ROOT / ".clinserve" / "loadtests"
KEY_FILE = runs.ROOT / ".clinserve" / "demo.key"


class UsageError(Exception):
    """Something that the person who started this must give otherwise."""


def arguments(words: Sequence[str]) -> argparse.Namespace:
    head = {"prog": "python -m loadtests", "formatter_class": argparse.RawDescriptionHelpFormatter}
    if not words or words[0] in ("-h", "--help"):
        parser = argparse.ArgumentParser(description=__doc__, **head)  # type: ignore[arg-type]
        parser.add_argument("command", help=f"a scenario, or one of {', '.join(COMMANDS)}")
        return parser.parse_args(words)
    parser = argparse.ArgumentParser(**(head | {"prog": f"python -m loadtests {words[0]}"}))  # type: ignore[arg-type]
    add = parser.add_argument
    match words[0]:
        case "list":
            pass
        case "report":
            add("folder", type=Path, help="of the run: where its measured.json is")
        case "answers":
            add("folder", type=Path, nargs="?", default=OUT, help="with a folder for each run (default: where they go)")
        case "worker":
            add("--master", required=True, help="host of the run that waits for workers")
            add("--port", type=int, default=5557, help="of its master (default %(default)s)")
            add("--processes", type=int, default=1, help="load generators on this machine (default %(default)s)")
            _key_options(parser)
        case command:
            if command == "find-capacity":
                add("scenario", help="whose first flow's objective decides")
                add("--from", dest="first", type=float, help="rate to begin with (default: the scenario's)")
                add("--precision", type=float, default=0.1, help="end when met and missed are so close (default 10 %%)")
            _run_options(parser)
    options = parser.parse_args(words[1:])
    options.command = words[0]
    return options


def _key_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--key", help="API key. Better: --key-file, or LOADTESTS_KEY; command lines can be seen by others")
    add("--key-file", type=Path, help="file with the key (default: .clinserve/demo.key)")
    add("--tenant-key", action="append", default=[], metavar="NAME=FILE", help="further key that a scenario names")


def _run_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--url", default="http://127.0.0.1:8000", help="where /v1 begins (default %(default)s)")
    _key_options(parser)
    add("--model", help="deployment to ask (default: the first that the server lists)")
    add("--context", type=int, help="tokens of prompt and answer that fit (default: the server is asked)")
    add("--no-probe", action="store_true", help="ask nothing before the run; needs --model and --context")
    add("--rate", type=float, help="requests a second of the first flow; the others change in proportion")
    add("--scale", type=float, default=1.0, help="all rates and users times this")
    for name, told in (("measure", "how long to measure"), ("warm-up", "before it"), ("drain", "after it, at most")):
        add(f"--{name}", type=seconds, metavar="TIME", help=f"{told}, such as 90s or 5m")
    for name in ("ttft", "tpot"):
        add(f"--{name}", type=seconds, metavar="TIME", help="limit of the first flow, such as 500ms")
    add("--attainment", type=float, help="share that must be good, of the first flow, such as 0.99")
    add("--trace", type=Path, metavar="CSV", help="for the scenario trace: time, prompt tokens, answer tokens")
    add("--time-scale", type=float, help="play a trace so many times as fast")
    add("--seed", help="equal seeds give equal load (default: another one each run, so no cache knows the prompts)")
    add("--processes", type=int, default=1, help="load generators on this machine (default %(default)s)")
    add("--workers", type=int, default=0, help="wait for so many load generators elsewhere instead; see `worker`")
    add("--port", type=int, default=5557, help="where workers meet (default %(default)s)")
    add(
        "--metrics-url",
        default="",
        help="Prometheus page with the server's side (default: URL/metrics, or clinserve's here)",
    )
    add("--out", type=Path, default=OUT, help="where a folder for each run goes (default .clinserve/loadtests)")


def keys(options: argparse.Namespace) -> dict[str, str]:
    """All keys by name; the default one from the option, the environment or the demo's file. Raises UsageError."""
    found = keys_in()
    if options.key or os.environ.get("LOADTESTS_KEY"):
        found["default"] = options.key or os.environ["LOADTESTS_KEY"]
    elif options.key_file or "default" not in found:
        found["default"] = _read(options.key_file or KEY_FILE, required=bool(options.key_file))
    for word in options.tenant_key:
        name, _, path = word.partition("=")
        found[name] = _read(Path(path), required=True)
    return found


def _read(path: Path, *, required: bool) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        if required:
            raise UsageError(f"cannot read the key in {path}: {error.strerror}") from error
        return ""


def plan(options: argparse.Namespace, name: str, given: dict[str, str]) -> Plan:
    """What is to be run, with what the server says about itself. Raises what makes a run impossible."""
    overrides = Overrides(
        rate=options.rate, scale=options.scale, measure=options.measure, warm_up=options.warm_up, drain=options.drain,
        ttft=options.ttft, tpot=options.tpot, attainment=options.attainment, time_scale=options.time_scale,
    )  # fmt: skip
    tree = scenario.load(name, options.trace)
    whole = overrides.of(scenario.parse(tree))  # its mistakes come before the server's
    if missing := whole.keys - {key for key, value in given.items() if value} - {"default"}:
        wanted = " ".join(f"--tenant-key {key}=FILE" for key in sorted(missing))
        raise UsageError(f"{whole.name} needs {wanted}. {whole.needs}")
    if options.no_probe:
        if not (options.model and options.context):
            raise UsageError("--no-probe needs --model and --context")
        server = Server(options.url, options.model, options.context, 1.3, forced=False)
    else:
        server = probe.probe(options.url, given["default"], options.model, options.context)
    return Plan(tree, server, options.seed or secrets.token_hex(4), overrides)


def one(
    made: Plan, given: dict[str, str], fleet: Fleet, folder: Path, metrics_url: str
) -> tuple[Scenario, results.Tree]:
    """Run it and write everything that there is to say about it."""
    measured = runs.run(made, given, fleet, folder, metrics_url)
    return written(measured, folder)


def written(measured: Measured, folder: Path) -> tuple[Scenario, results.Tree]:
    whole = measured.plan.resolved()
    result = results.summary(whole, measured, slo.judge(whole, measured))
    results.write(folder, result)
    (folder / "report.html").write_text(report.page(whole, measured, result))
    return whole, result


def run(options: argparse.Namespace, say: Console) -> int:
    """One scenario: the verdict first, then the figures, then where the report is."""
    given = keys(options)
    made = plan(options, options.command, given)
    fleet = Fleet(options.processes, options.workers, options.port)
    folder = runs.new_folder(options.out, options.command)
    _, result = one(made, given, fleet, folder, options.metrics_url)
    tell(result, say)
    say.print(f"report: {folder / 'report.html'}", soft_wrap=True)
    return int(result["status"])


def tell(result: results.Tree, say: Console) -> None:
    colour = {MET: "green", MISSED: "red", INVALID: "yellow"}[result["status"]]
    say.print(result["line"], style=colour, markup=False, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("ms", no_wrap=True)
    for head in ("offered", "good", "TTFT p50", "p99", "ITL p99", "TPOT p50", "p99", "E2E p50"):
        table.add_column(head, justify="right", no_wrap=True)
    for flow in result["flows"]:
        name = f"  {flow['part']}" if flow["part"] else flow["flow"]
        cells = [name, f"{flow['offered']:,}", f"{flow['attainment']:.1%}" if flow["offered"] else "–"]
        shown = (("ttft", "p50"), ("ttft", "p99"), ("itl", "p99"), ("tpot", "p50"), ("tpot", "p99"), ("e2e", "p50"))
        table.add_row(*cells, *(_ms(flow[time][share]) for time, share in shown))
    say.print(table)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{1000 * value:.1f}" if value < 0.1 else f"{1000 * value:,.0f}"


def find_capacity(options: argparse.Namespace, say: Console) -> int:
    """Try rates until one that meets and one that does not are close. Every rate is a run with a report of its own."""
    given = keys(options)
    made = plan(options, options.scenario, given)
    flow = made.resolved().flows[0]
    first = options.first or options.rate or getattr(flow.arrivals, "rate", None)
    if first is None:
        raise UsageError(
            f"{options.scenario} has no one rate to change; take one with constant, poisson or gamma arrivals"
        )
    folder = runs.new_folder(options.out, f"capacity-{Path(options.scenario).stem}")
    fleet, tried = Fleet(options.processes, options.workers, options.port), []

    def meets(rate: float) -> bool | None:
        overrides = dataclasses.replace(made.overrides, rate=rate, scale=1.0)
        name = f"{rate:.3g}"
        this = dataclasses.replace(made, seed=secrets.token_hex(4), overrides=overrides)
        _, result = one(this, given, fleet, folder / name, options.metrics_url)
        tried.append({"rate": rate, "verdict": result["verdict"], "figures": result["flows"][0], "folder": name})
        print(result["line"], file=sys.stderr)
        return {MET: True, MISSED: False, INVALID: None}[result["status"]]

    found = capacity.search(meets, first, precision=options.precision)
    whole = made.resolved()
    line, status = told(whole, found)
    (folder / "report.html").write_text(report.capacity_page(whole, line, slo.WORDS[status], tried))
    results.write_capacity(folder, line, found, tried)
    say.print(line, style={MET: "green", MISSED: "red", INVALID: "yellow"}[status], markup=False, soft_wrap=True)
    say.print(f"report: {folder / 'report.html'}", soft_wrap=True)
    return status


def told(whole: Scenario, found: capacity.Capacity) -> tuple[str, int]:
    """A search's outcome in one line, and its exit status."""
    flow = whole.flows[0]
    wanted = f"{flow.objective.attainment:.1%} with {flow.objective}"
    if not found.highest:
        met = f"no rate down to {found.bound:.3g}/s met {wanted}"
        status = MISSED if found.reliable else INVALID
    else:
        met = f"{found.highest:.3g} requests a second met {wanted}"
        status = MET if found.reliable else INVALID
        if found.bound is None:
            met += "; none that was tried missed"
        elif found.reliable:
            met += f"; {found.bound:.3g}/s missed"
    if not found.reliable:
        met += f"; at {found.bound:.3g}/s the client was the bottleneck: use more --processes, or another machine"
    return f"{slo.WORDS[status]}  {whole.name}  {met}", status


def show(say: Console) -> int:
    table = Table(box=None, pad_edge=False)
    table.add_column("scenario", no_wrap=True)
    table.add_column("the question it answers")
    for name in scenario.names():
        table.add_row(name, scenario.load(name)["question"])
    say.print(table)
    say.print("\nRun one: python -m loadtests NAME [--url URL --key-file FILE]. What each means: loadtests/README.md")
    return 0


def main(words: Sequence[str] | None = None) -> int:
    options, say = arguments(sys.argv[1:] if words is None else words), Console(highlight=False)
    commands: dict[str, Any] = {"find-capacity": find_capacity}
    try:
        match options.command:
            case "list":
                return show(say)
            case "report":
                tell(written(Measured.read(options.folder), options.folder)[1], say)
                return 0
            case "answers":
                print(answers.table(answers.last(options.folder).values()))
                return 0
            case "worker":
                return runs.work(options.master, options.port, keys(options), options.processes)
        return int(commands.get(options.command, run)(options, say))
    except (ScenarioError, TraceError, ProbeError, UsageError, RunError) as error:
        say.print(f"ERROR  {error}", style="red", markup=False, soft_wrap=True)
        return HARNESS_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
