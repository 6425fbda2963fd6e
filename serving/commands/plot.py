"""Numbers by day as bars, for a terminal."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from datetime import date, timedelta

_EIGHTHS = "▏▎▍▌▋▊▉█"


def drawn(values: Mapping[date, int], first: date, last: date) -> Iterator[str]:
    """A line for each day, those without anything too, and their sum. As wide as the terminal, 80 columns elsewhere."""
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    most = max((values.get(day, 0) for day in days), default=0)
    digits = len(f"{most:,}")
    width = shutil.get_terminal_size((80, 24)).columns - len("2026-11-25  ") - digits - 1
    for day in days:
        value = values.get(day, 0)
        yield f"{day}  {value:>{digits},} {bar(value, most, width)}".rstrip()
    yield f"{sum(values.get(day, 0) for day in days):,} tokens in {len(days)} days"


def bar(value: int, most: int, width: int) -> str:
    """The share of value in most, to an eighth of a column; whatever is not nothing is seen."""
    if not value:
        return ""
    eighths = max(1, round(value / most * width * 8))
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8 - 1] if eighths % 8 else "")
