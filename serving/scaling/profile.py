"""What one replica can do, as `clinserve profile` measures it."""

from __future__ import annotations

import math
from dataclasses import dataclass


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
