"""What `clinserve doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "missing"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. remedy: what to do when it is not ok."""

    what: str
    state: State
    detail: str
    remedy: str = ""
