"""Are the load tests to be believed? They measure a server whose times are known, beside a second, independent client.

    python -m loadtests.trust                 several rates, and `vllm bench serve` on the same server; four minutes
    python -m loadtests.trust --rates 5       one rate
    python -m loadtests.trust --no-second     without the other client

The truth is what the echo engine was told: its first token after FIRST, each further one after GAP, so that an answer
of n tokens takes FIRST + (n - 1) * GAP. What gateway and network add, about 2 ms to the first token, is counted against
us. Held against it: TTFT, ITL and TPOT at the median, and the attainment of a limit on E2E that answers of up to
LIMIT_TOKENS tokens meet. Within 2 ms or 2 %, whichever is more. The column `gateway` is what the gateway logged on its
own clock: where that is off by more, the machine was late and not the client, and the rate is not judged.

Exit status: 0 all was within, at every rate that could be judged; 2 something was not; 3 no rate could be judged; 4 it
could not be measured.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from loadtests import echo, probe, runs, slo
from loadtests.measured import Measured
from loadtests.plan import Overrides, Plan
from loadtests.probe import ProbeError
from loadtests.runs import ROOT, Fleet, RunError

FIRST_S, GAP_S = 0.2, 0.02
ANSWER_TOKENS, LIMIT_TOKENS = 24, 14
TOLD = (("TTFT p50", FIRST_S), ("TPOT p50", GAP_S))
TOLERANCE_S, TOLERANCE = 0.002, 0.02
TOKENIZER = ROOT / "deploy/demo_model/clinical-demo"
VLLM_BENCH = """
from vllm.benchmarks import serve
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
serve.add_cli_args(parser)
serve.main(parser.parse_args())
"""  # the command `vllm bench serve` looks for a distribution named vllm, which the CPU package is not


@dataclass(frozen=True)
class Compared:
    """One figure beside the truth."""

    what: str
    truth: float
    seen: float
    within: bool


def truths(measured: Measured) -> list[Compared]:
    """What a run saw beside what the engine was told."""
    tally = measured.tallies.sum()
    meets = [row.answer_tokens <= LIMIT_TOKENS for row in measured.rows if row.measured and row.kind == "ok"]
    share = sum(meets) / tally.offered
    return [
        _time("TTFT p50", FIRST_S, tally.times["ttft"].percentile(0.5)),
        _time("ITL p50", GAP_S, tally.times["itl"].percentile(0.5)),
        _time("TPOT p50", GAP_S, tally.times["tpot"].percentile(0.5)),
        Compared("attainment", share, tally.attainment, abs(tally.attainment - share) <= TOLERANCE),
    ]


def _time(what: str, truth: float, seen: float) -> Compared:
    return Compared(what, truth, seen, abs(seen - truth) <= max(TOLERANCE_S, TOLERANCE * truth))


def unaccounted(measured: Measured) -> list[str]:
    """What does not add up; nothing may be here, however slow the machine is."""
    whole, tally = measured.plan.resolved(), measured.tallies.sum()
    flow, rows = whole.flows[0], [row for row in measured.rows if row.measured]
    schedule = flow.arrivals.arrivals(whole.window, Random(f"{measured.plan.seed}/{flow.name}"))
    pairs = (
        ("requests scheduled and offered", sum(arrival.at in whole.window for arrival in schedule), tally.offered),
        ("rows and offered", len(rows), tally.offered),
        ("good rows and good", sum(row.good for row in rows), tally.good),
        ("tokens of rows and of the tally", sum(row.answer_tokens for row in rows), tally.answer_tokens),
        ("events less one and gaps", sum(max(0, row.frames - 1) for row in rows), tally.times["itl"].count),
    )
    return [f"{what}: {one} and {other}" for what, one, other in pairs if one != other]


def known(rate: float, seconds: float, warm_up: float = 3.0) -> dict[str, Any]:
    """A scenario whose truth is known."""
    flow = {
        "name": "chat",
        "arrivals": {"kind": "poisson", "rate": rate},
        "workload": {"kind": "chat", "prompt": 120, "answer": ANSWER_TOKENS, "spread": 0.5},
        "objective": {"e2e": FIRST_S + (LIMIT_TOKENS - 0.5) * GAP_S, "attainment": 0.0},
    }
    times = {"warm_up": warm_up, "measure": seconds, "drain": 20}
    return {"name": "trust", "question": "Is this client to be believed?", "flows": [flow], **times}


def measure(url: str, key: str, tree: Mapping[str, Any], fleet: Fleet) -> Measured:
    """One run of such a scenario. Raises RunError when anything was lost on the way."""
    made = Plan(tree, probe.probe(url, key), secrets.token_hex(4), Overrides())
    with tempfile.TemporaryDirectory(prefix="clinserve-trust-") as folder:
        measured = runs.run(made, {"default": key}, fleet, Path(folder))
    if wrong := unaccounted(measured):
        raise RunError(f"does not add up: {'; '.join(wrong)}")
    return measured


def second(url: str, key: str, rate: float, seconds: float) -> dict[str, float]:
    """What `vllm bench serve` says of the same server at the same rate, in seconds."""
    count = round(rate * seconds)
    with tempfile.TemporaryDirectory(prefix="clinserve-trust-") as folder:
        options = {
            "backend": "openai-chat", "base-url": url, "endpoint": "/v1/chat/completions", "model": "echo",
            "tokenizer": str(TOKENIZER), "dataset-name": "random", "random-input-len": "120",
            "random-output-len": str(ANSWER_TOKENS), "num-prompts": str(count), "request-rate": str(rate),
            "percentile-metrics": "ttft,tpot,itl", "metric-percentiles": "50,99",
            "result-dir": folder, "result-filename": "second.json",
        }  # fmt: skip
        command = [sys.executable, "-c", VLLM_BENCH, "--save-result"]
        command += [word for name, value in options.items() for word in (f"--{name}", value)]
        environment = os.environ | {"OPENAI_API_KEY": key, "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        result = Path(folder, "second.json")
        if done.returncode or not result.exists():
            raise RunError(f"vllm bench serve ended with {done.returncode}: {(done.stderr or done.stdout)[-800:]}")
        said: Mapping[str, Any] = json.loads(result.read_text())
    if said["completed"] != count:
        raise RunError(f"vllm bench serve completed {said['completed']} of {count}")
    names = [(name, share) for name in ("TTFT", "ITL", "TPOT") for share in ("p50", "p99")]
    return {f"{name} {share}": said[f"{share}_{name.lower()}_ms"] / 1000 for name, share in names}


def logged(requests: Sequence[Mapping[str, Any]], measured: Measured) -> dict[str, float]:
    """What the gateway's own log says of a run, under the names of `truths`."""
    limit = measured.plan.resolved().flows[0].objective.e2e or 0.0
    within = [request["duration_ms"] / 1000 <= limit for request in requests]
    return {
        "TTFT p50": median(request["ttft_ms"] for request in requests) / 1000,
        "TPOT p50": median(request["tpot_ms"] for request in requests if request.get("tpot_ms")) / 1000,
        "attainment": sum(within) / len(within),
    }


def excuse(measured: Measured, gateway: Mapping[str, float], rows: Sequence[Compared]) -> str:
    """Why a rate cannot be judged; empty when it can."""
    if slo.judge(measured.plan.resolved(), measured).doubts:
        return "the client itself says that it was late"
    # Half of the tolerance is the server's: with more, the truth is no longer known well enough to hold anyone to it.
    late = any(abs(gateway[name] - truth) > max(TOLERANCE_S, TOLERANCE * truth) / 2 for name, truth in TOLD)
    share = next(row.truth for row in rows if row.what == "attainment")
    if late or abs(gateway["attainment"] - share) > TOLERANCE:
        return "the gateway's own clock says that it was late"
    return ""


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.trust", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rates", type=float, nargs="+", default=[2, 10, 40], help="requests a second (default 2 10 40)")
    add("--seconds", type=float, default=20, help="measured at each rate (default %(default)s)")
    add("--processes", type=int, default=1, help="load generators (default %(default)s)")
    add("--port", type=int, default=8471, help="of the echo server; the next one is Locust's (default %(default)s)")
    add("--no-second", action="store_true", help="without vllm bench serve")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    options, say = arguments(words), Console(highlight=False)
    table = Table("rate", "figure", "truth", "ours", "gateway", "vllm bench", "", box=None)
    wrong, excused = 0, {}
    before = echo.load()
    try:
        with echo.running(FIRST_S, GAP_S, options.port) as server:
            for rate in options.rates:
                fleet = Fleet(options.processes, port=options.port + 1)
                begin = server.lines()
                measured = measure(server.url, server.key, known(rate, options.seconds), fleet)
                gateway = logged(server.requests(begin), measured)
                other = {} if options.no_second else second(server.url, server.key, rate, options.seconds)
                rows = truths(measured)
                if why := excuse(measured, gateway, rows):
                    excused[rate] = why
                else:
                    wrong += sum(not row.within for row in rows)
                _tell(table, rate, measured, rows, gateway, other)
    except (ProbeError, RunError) as error:
        say.print(f"ERROR  {error}", style="red", markup=False, soft_wrap=True)
        return slo.HARNESS_ERROR
    status = slo.MISSED if wrong else slo.INVALID if len(excused) == len(options.rates) else slo.MET
    told = f"{wrong} figure(s) not within 2 ms or 2 % of the truth" if wrong else "within 2 ms or 2 % of the truth"
    judged = [f"{rate:g}/s" for rate in options.rates if rate not in excused]
    told = f"{told} at {', '.join(judged)}" if judged else "no rate could be judged"
    told += "".join(f"; {rate:g}/s not judged, {why}" for rate, why in excused.items())
    colour = {slo.MET: "green", slo.MISSED: "red", slo.INVALID: "yellow"}[status]
    say.print(f"{slo.WORDS[status]}  trust  {told}", style=colour, markup=False, soft_wrap=True)
    say.print(table)
    say.print("Every request scheduled, every row, token and gap was accounted for at every rate.")
    say.print(f"echo engine: first token {1000 * FIRST_S:g} ms, gap {1000 * GAP_S:g} ms", soft_wrap=True)
    say.print(f"before: {before}; after: {echo.load()}", soft_wrap=True)
    return status


def _tell(
    table: Table,
    rate: float,
    measured: Measured,
    rows: Sequence[Compared],
    gateway: Mapping[str, float],
    other: Mapping[str, float],
) -> None:
    for number, row in enumerate(rows):
        told = _share if row.what == "attainment" else _ms
        others = [told(found[row.what]) if row.what in found else "" for found in (gateway, other)]
        mark = "✓" if row.within else "✗"
        table.add_row("" if number else f"{rate:g}/s", row.what, told(row.truth), told(row.seen), *others, mark)
    times = measured.tallies.sum().times
    for what, histogram in (("TTFT", times["ttft"]), ("ITL", times["itl"]), ("client lag", times["lag"])):
        beside = _ms(other[f"{what} p99"]) if f"{what} p99" in other else ""
        table.add_row("", f"{what} p99", "", _ms(histogram.percentile(0.99)), "", beside, "")
    table.add_row("", "client CPU", "", f"{max(worker.cpu for worker in measured.workers.values()):.0%}", "", "", "")


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def _share(share: float) -> str:
    return f"{share:.1%}"


if __name__ == "__main__":
    sys.exit(main())
