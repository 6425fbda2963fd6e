"""The last answer to each scenario's question, as the table that README.md keeps: from the folders of runs."""

import json
from collections.abc import Iterable
from pathlib import Path

from loadtests.results import Tree
from loadtests.slo import MET, MISSED

HEAD = "| scenario | verdict | seen, times in ms | date | commit | load average |\n|---|---|---|---|---|---|"


def last(base: Path) -> dict[str, Tree]:
    """The newest result of each scenario below this folder; an invalid one is no answer. Raises OSError, ValueError."""
    results = [json.loads(file.read_text()) for file in base.glob("*/results.json")]
    results = [result for result in results if result.get("status") in (MET, MISSED)]  # a search has no one status
    return {result["scenario"]: result for result in sorted(results, key=lambda result: str(result["begin"]))}


def table(results: Iterable[Tree]) -> str:
    """Markdown. The machine is told above it, once for each that there was."""
    rows: list[str] = []
    machines: dict[str, None] = {}
    for result in sorted(results, key=lambda result: str(result["scenario"])):
        machine = result["machine"]
        machines[f"{machine['cores']} cores of {machine['cpu']}"] = None
        seen = "; ".join(_seen(flow) for flow in result["flows"] if not flow["part"])
        date, load = result["begin"][:10], machine["load_average"][0]
        rows.append(
            f"| `{result['scenario']}` | {result['verdict']} | {seen} | {date} | {machine['commit']} | {load} |"
        )
    return "\n".join([*machines, "", HEAD, *rows])


def _seen(flow: Tree) -> str:
    told = f"{flow['flow']} {flow['good']:,} of {flow['offered']:,}"
    for name in ("ttft", "e2e"):
        times = flow[name]
        if times["count"]:
            high = [share for share in ("p99", "p95", "p90") if share not in times["thin"]][:1]
            shares = [f"{share} {1000 * times[share]:.0f}" for share in ("p50", *high)]
            return f"{told}: {name.upper()} {', '.join(shares)}"
    return told
