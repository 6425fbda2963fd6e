"""The result as a table: on the terminal, and in Markdown for docs/hostile.md."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

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


def on_terminal(found: Sequence[Found], quiet: Quiet) -> Table:
    table = Table(*COLUMNS, box=None)
    table.add_row(*quiet_row(quiet))
    for one in found:
        table.add_row(*row(one, quiet))
    return table


def in_markdown(found: Sequence[Found], quiet: Quiet, about: Mapping[str, str]) -> str:
    lines = [", ".join(f"{name} {value}" for name, value in about.items()) + ".", ""]
    lines += [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", f"| {' | '.join(quiet_row(quiet))} |"]
    for one in found:
        name, *rest = row(one, quiet)
        lines.append(f"| **{name}**: {_escaped(one.attack.what)} | {' | '.join(map(_escaped, rest))} |")
    return "\n".join(lines) + "\n"


def written(page: Path, table: str) -> None:
    """Put the table between its marks in a page that has them, or make a page of it."""
    before, mark, rest = (page.read_text() if page.exists() else "").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    page.write_text(f"{before}{mark}\n{table}{end}{after}" if mark and end else table)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
