"""What administrative commands print: JSON for scripts, tables for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]

_PIPED_WIDTH = 240  # columns where there is no terminal: grep wants a row in one line


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def print_json_list(items: Iterable[Any]) -> None:
    """As they come: there may be more than fit in memory."""
    before = "[\n"
    for item in items:
        typer.echo(f"{before}  {json.dumps(item)}", nl=False)
        before = ",\n"
    typer.echo("[]" if before == "[\n" else "\n]")


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, whole: Sequence[str] = (), right: Sequence[str] = ()
) -> None:
    """whole: columns that are not broken, for copying, in a narrow terminal too. right: those of numbers."""
    table = Table(box=None)
    for name in columns:
        table.add_column(name, no_wrap=name in whole, overflow="fold", justify="right" if name in right else "left")
    for row in rows:
        table.add_row(*map(Text, row))  # Text: a name like [red] is no markup
    Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH).print(table)
