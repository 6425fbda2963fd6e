"""The result as a table: on the terminal, and in Markdown for docs/hostile.md."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from loadtests.hostile.judged import Found, Quiet, told

COLUMNS = (
    "attack", "it got", "bystander failed", "TTFT p50 / p99, ms", "lag, ms", "memory, MB", "as before after", "held",
)  # fmt: skip
_BEGIN, _END = "<!-- attacks -->", "<!-- /attacks -->"
_SHOWN = ("gateway", "haproxy", "engine replica", "engine")


def row(found: Found, quiet: Quiet) -> tuple[str, ...]:
    late = "inf" if math.isinf(found.lag) else f"≤ {1000 * found.lag:.0f}"
    memory = " ".join(f"{found.grown.get(name, 0) / 2**20:+.0f}" for name in _SHOWN)
    calm = "never" if math.isinf(found.calm_s) else f"{found.calm_s:.1f} s"
    times = f"{1000 * found.p50:.0f} / {1000 * found.p99:.0f}"
    verdict = "; ".join(found.faults(quiet)) or "yes"
    failed = f"{sum(found.failures.values())} of {found.requests}"
    return found.attack.name, told(found.got), failed, times, late, memory, calm, verdict


def quiet_row(quiet: Quiet) -> tuple[str, ...]:
    times, lag = f"{1000 * quiet.p50:.0f} / {1000 * quiet.p99:.0f}", f"≤ {1000 * quiet.lag:.0f}"
    return "(quiet)", "", "0", times, lag, "", "", ""


def on_terminal(runs: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(*COLUMNS, box=None)
    for run in runs:
        table.add_row(*run["quiet_row"])
        for one in run["attacks"]:
            table.add_row(*one["row"])
    return table


def in_markdown(runs: Sequence[Mapping[str, Any]]) -> str:
    """runs: as results.py has them; each has a row for what was seen without an attack."""
    lines = [", ".join(f"{name} {value}" for name, value in run["about"].items()) + "." for run in runs]
    lines += ["", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for run in runs:
        lines.append(f"| {' | '.join(run['quiet_row'])} |")
        for one in run["attacks"]:
            name, *rest = one["row"]
            lines.append(f"| **{name}**: {_escaped(one['what'])} | {' | '.join(map(_escaped, rest))} |")
    return "\n".join(lines) + "\n"


def written(page: Path, table: str) -> None:
    """Put the table between its marks in a page that has them, or make a page of it."""
    before, mark, rest = (page.read_text() if page.exists() else "").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    page.write_text(f"{before}{mark}\n{table}{end}{after}" if mark and end else table)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
