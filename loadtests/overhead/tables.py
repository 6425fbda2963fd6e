"""A run as tables: for the terminal, and in Markdown with each peer's configuration, to keep."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from loadtests.overhead import report
from loadtests.overhead.peers import BARE, PEERS, EngineKind
from loadtests.overhead.report import Summary, Value
from loadtests.overhead.rounds import Load, loaded

ENGINES: Mapping[EngineKind, str] = {
    "model": "the demo model on vLLM",
    "echo": "an engine that costs nothing",
}
NOTHING = "-"


@dataclass(frozen=True)
class Sheet:
    """One table. Each row begins with a peer's title."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def sheets(engine: EngineKind, summary: Summary, outcomes: Mapping[str, str], load: Load) -> list[Sheet]:
    """Return the tables of one engine. outcomes: by peer, why it has no numbers, or not all of them."""
    some = sorted({min(load.streams), load.reference})
    added = "what each adds to the bare engine's" if BARE in summary else "as it is: no bare engine was measured"
    cost = [
        (f"CPU, µs a token, {load.reference} streams", report.cpu(load.reference)),
        ("requests/s of one core, not streamed", report.REQUESTS),
        ("memory, MiB", report.MEMORY),
    ]
    rates = [(loaded(n), report.throughput(n)) for n in load.streams]
    on = ENGINES[engine]

    def sheet(title: str, columns: Sequence[tuple[str, str]], cell: Callable[[Value], str]) -> Sheet:
        rows = []
        for peer in PEERS:
            if peer not in summary and peer not in outcomes:
                continue
            values = summary.get(peer, {})
            cells = [cell(values[name]) if name in values else NOTHING for _, name in columns]
            if peer in outcomes:
                blank = cells.index(NOTHING) if NOTHING in cells else len(cells) - 1
                cells[blank] = outcomes[peer]
            rows.append([PEERS[peer].title, *cells])
        return Sheet(title, [title_of for title_of, _ in columns], rows)

    return [
        sheet(f"Throughput, tokens/s · its share of the bare engine's: {on}", rates, _rate),
        *(sheet(f"Latency in ms with {loaded(n)}, {added}: {on}", _latencies(n), _latency) for n in some),
        sheet(f"Cost outside the engine: {on}", cost, _cost),
    ]


def _latencies(streams: int) -> list[tuple[str, str]]:
    return [
        (f"{what} p{share}", name(streams, share))
        for what, name in (("TTFT", report.ttft), ("ITL", report.itl))
        for share in (50, 99)
    ]


def _rate(value: Value) -> str:
    if value.against is None:
        return _spread(value.here, "{:,.0f}")
    return f"{value.here.median:,.0f} · {_spread(value.against, '{:.2f}')}"


def _latency(value: Value) -> str:
    return _spread(value.here, "{:.1f}") if value.against is None else _spread(value.against, "{:+.1f}")


def _cost(value: Value) -> str:
    return _spread(value.here, "{:,.0f}")


def _spread(spread: report.Spread, form: str) -> str:
    text = form.format(spread.median)
    if len(spread.values) == 1:
        return text
    return f"{text} ({form.format(min(spread.values))} to {form.format(max(spread.values))})"


def show(console: Console, sheet: Sheet) -> None:
    table = Table("", *sheet.columns, title=sheet.title, title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in sheet.rows:
        table.add_row(*row)
    console.print(table)


def markdown(
    tables: Sequence[Sheet], configurations: Mapping[EngineKind, Mapping[str, Sequence[str]]], facts: Sequence[str]
) -> str:
    """Return the whole report.

    configurations: by engine and peer, as peers.described gives them. facts: about machine and load.
    """
    lines = [", ".join(facts), ""]
    for sheet in tables:
        lines += [f"**{sheet.title}**", "", f"| | {' | '.join(sheet.columns)} |"]
        lines += ["|---" + "|---:" * len(sheet.columns) + "|"]
        lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in sheet.rows]
        lines += [""]
    lines += ["**How each was started**", ""]
    for engine, peers in configurations.items():
        for peer, described in peers.items():
            lines += [f"{PEERS[peer].title}, {ENGINES[engine]}:", "", "```", *described, "```", ""]
    return "\n".join(lines)


def outcome(failure: str) -> str:
    """A failure in the words that fit into a cell."""
    first, *rest = failure.strip().splitlines()
    return f"failed: {first} {rest[0].strip()}"[:120] if first.endswith(":") and rest else f"failed: {first}"[:120]


def split(peer: str, roles: Mapping[str, float]) -> str:
    ordered = sorted(roles.items(), key=lambda item: -item[1])
    return f"CPU of {PEERS[peer].title}, µs/token: " + ", ".join(f"{name} {value:.0f}" for name, value in ordered)
