"""What settings are made of: closed, frozen sections; seconds and bytes with their units."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

_DURATION = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_SIZE = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


class SettingsError(Exception):
    """The configuration cannot be used. The message names the place and the remedy, one problem a line."""


def _quantity(units: Mapping[str, float]) -> Any:
    def read(value: object) -> object:
        match = re.fullmatch(r"\s*([0-9.]+)\s*([A-Za-z]+)\s*", value) if isinstance(value, str) else None
        if match is None:
            return value
        number, unit = match[1], match[2].lower()
        if unit not in units:
            raise ValueError(f"unknown unit '{match[2]}'; use one of {', '.join(units)}")
        return float(number) * units[unit]

    return BeforeValidator(read)


def _written(units: Mapping[str, float]) -> Any:
    """For JSON Schema, such as the chart's: a number, or one with its unit."""
    unit = "|".join("".join(f"[{c}{c.upper()}]" for c in name) for name in units)
    return WithJsonSchema({"type": ["number", "string"], "minimum": 0, "pattern": rf"^\s*[0-9.]+\s*({unit})\s*$"})


Seconds = Annotated[float, _quantity(_DURATION), Field(ge=0), _written(_DURATION)]

Bytes = Annotated[int, _quantity(_SIZE), Field(gt=0), _written(_SIZE)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)
