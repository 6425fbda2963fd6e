"""How times are typed and shown at a shell. All are UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from serving.errors import InvalidRequest

_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def duration(option: str, text: str) -> timedelta:
    """What is typed for an option such as --grace, or InvalidRequest."""
    match = re.fullmatch(r"([1-9][0-9]{0,3})([mhdw])", text)
    if match is None:
        raise InvalidRequest(f"{option} takes a number and m, h, d or w, such as 90d or 12h.")
    return int(match[1]) * _UNITS[match[2]]


def moment(option: str, text: str) -> datetime:
    """What is typed for an option such as --from, or InvalidRequest. A day is its beginning."""
    try:
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{option} takes a day or a time, such as 2026-11-01 or 2026-11-01T08:00Z.") from None


def shown(time: datetime | None) -> str:
    return "never" if time is None else f"{time:%Y-%m-%d %H:%M}Z"
