"""What one replica can do, as `clinserve profile` measures it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class CapacityProfile:
    """One replica of a deployment, on its hardware.

    prefill_rate, decode_rate: tokens a second at saturation; infinite where nobody has measured: such a rate then never
    asks for a replica. concurrency: requests running at which its goals still hold. start_seconds: from asking for a
    replica to its first answer.
    """

    prefill_rate: float = math.inf
    decode_rate: float = math.inf
    concurrency: float = 64.0
    start_seconds: float = 60.0

    def __post_init__(self) -> None:
        if min(self.prefill_rate, self.decode_rate, self.concurrency) <= 0 or self.start_seconds < 0:
            raise ValueError("a capacity profile has rates and a concurrency above zero")

    def to_numbers(self) -> dict[str, float]:
        """What is measured; what is not is left out, since JSON knows no infinity."""
        numbers = {field.name: float(getattr(self, field.name)) for field in fields(self)}
        return {name: value for name, value in numbers.items() if math.isfinite(value)}

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, object]) -> CapacityProfile:
        """Raises ValueError. Names that are no part of a profile are passed over: a file also says when it was made."""
        known = {field.name for field in fields(cls)} & numbers.keys()
        if not known:
            raise ValueError("is not a capacity profile")
        found = {name: numbers[name] for name in known}
        if not all(isinstance(value, int | float) for value in found.values()):
            raise ValueError("a capacity profile is made of numbers")
        return cls(**found)  # type: ignore[arg-type]
