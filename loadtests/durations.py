"""Times as people write them."""

import re
from typing import Annotated

Seconds = Annotated[float, "seconds"]
"""A field that is written with a unit in YAML."""
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}


def seconds(value: float | str) -> float:
    """`500ms`, `2s`, `2m`, `1h` or a number of seconds. Raises ValueError."""
    found = re.fullmatch(r"\s*(\d+\.?\d*)\s*(ms|s|m|h|)\s*", str(value))
    if not found:
        raise ValueError(f"{value!r} is no time; write 500ms, 2s or 2m")
    return float(found[1]) * _UNITS[found[2]]
