"""Files that administrative commands write: readable by their owner only, or standard output for `-`."""

from __future__ import annotations

import os
from collections.abc import Iterable

import typer


def write_lines(to: str, lines: Iterable[str]) -> None:
    """lines: with their ends."""
    if to == "-":
        for line in lines:
            typer.echo(line, nl=False)
        return
    with os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.writelines(lines)
