"""How `clinserve top` looks. It fits 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from serving.commands.figures import Row
from serving.commands.running import Reading, TenantUse

TENANTS = 8
_NUMBERS = ("repl", "busy", "queue", "kv", "tok/s", "ttft50", "ttft95", "429/m")


@dataclass(frozen=True, slots=True)
class View:
    """What is shown. trouble: why there is nothing newer. tenants: of the last minutes; None for a key that may not
    know.
    """

    url: str
    reading: Reading
    rows: Sequence[Row]
    tenants: Sequence[TenantUse] | None
    now: datetime
    trouble: str | None = None


def screen(view: View) -> RenderableType:
    dimmed = "dim" if view.trouble else ""
    parts: list[RenderableType] = [*_head(view), _sums(view.rows, dimmed), Text(), _deployments(view.rows, dimmed)]
    if view.tenants:
        parts += [Text(), _tenants(view.tenants, dimmed)]
    parts += [Text(), Text("q quits", style="dim")]
    return Group(*parts)


def _head(view: View) -> Iterator[Text]:
    known, problem = view.reading.status, view.reading.problem
    state, style = ("ready", "green") if problem is None else ("not ready", "yellow")
    head = Text(f"clinserve {known['version']}" if known else "clinserve", style="bold")
    head.append(f"  {view.url}  ", style="not bold")
    if view.trouble is None:
        head.append(state, style=style)
        if known:
            head.append(f"  up {_lasting(view.now, known['started_at'])}", style="not bold")
    yield head
    if words := view.trouble or problem:
        yield Text(words, style="bold red" if view.trouble else "bold yellow")


def _sums(rows: Sequence[Row], style: str) -> Text:
    facts = (
        f"requests/s {_rate(sum(row.requests for row in rows))}",
        f"tokens/s {sum(row.tokens for row in rows):,.0f}",
        f"in flight {sum(row.in_flight for row in rows)}",
        f"429/min {sum(row.refused for row in rows):.0f}",
        f"failed/min {sum(row.failed for row in rows):.0f}",
    )
    return Text("  ".join(facts), style=style)


def _deployments(rows: Sequence[Row], style: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, style=style, expand=True)
    table.add_column("deployment", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("state", no_wrap=True)
    for name in _NUMBERS:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        half, most = row.ttft or (None, None)
        table.add_row(
            Text(row.name),
            Text(row.state, style={"ready": "green", "away": "bold red"}.get(row.state, "")),
            row.replicas,
            str(row.in_flight),
            "-" if row.queue is None else str(row.queue),
            "-" if row.kv is None else f"{row.kv:.0%}",
            f"{row.tokens:,.0f}",
            _time(half),
            _time(most),
            Text(f"{row.refused:.0f}", style="yellow" if row.refused >= 1 else ""),
        )
    return table


def _tenants(tenants: Sequence[TenantUse], style: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, style=style)
    table.add_column("tenant, last 5 min", no_wrap=True, overflow="ellipsis", max_width=40)
    for name in ("requests", "tokens"):
        table.add_column(name, justify="right")
    for use in tenants[:TENANTS]:
        table.add_row(Text(use.tenant), f"{use.requests:,}", f"{use.tokens:,}")
    if rest := tenants[TENANTS:]:
        sums = (sum(use.requests for use in rest), sum(use.tokens for use in rest))
        table.add_row(f"{len(rest)} others", f"{sums[0]:,}", f"{sums[1]:,}")
    return table


def _rate(rate: float) -> str:
    return f"{rate:.1f}" if rate < 100 else f"{rate:,.0f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f}ms" if seconds < 1 else f"{seconds:.1f}s"


def _lasting(now: datetime, since: str) -> str:
    seconds = max(0, int((now - datetime.fromisoformat(since).astimezone(UTC)).total_seconds()))
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (seconds % 60, "s"))
    shown = [f"{count}{unit}" for count, unit in parts if count]
    return " ".join(shown[:2]) or "0s"
