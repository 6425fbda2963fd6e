"""What a deployment promises, and how many replicas it may have for that."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from serving.settings.values import Seconds, Section


class Slo(Section):
    """Goals of interactive requests. Scaling goes by them; without scaling they are only written down."""

    ttft_p95: Seconds | None = Field(
        None, gt=0, description="Time to first token that 95 of 100 requests must see at a replica. Default: no goal."
    )
    tpot_p95: Seconds | None = Field(None, gt=0, description="Time between tokens, likewise. Default: no goal.")


class Scaling(Section):
    """How the number of replicas follows the load: docs/scaling.md."""

    min: int = Field(1, ge=0, description="Replicas at least. 0 lets the deployment sleep.")
    max: int = Field(ge=1, description="Replicas at most.")
    scale_to_zero_after: Seconds = Field(
        600.0, gt=0, description="Without a request for so long it sleeps, where min is 0."
    )
    scale_down_after: Seconds = Field(
        300.0, gt=0, description="One replica goes when one fewer would have been enough for so long."
    )
    replica_hours_a_day: float | None = Field(
        None, gt=0, description="Budget. Spent within 24 hours, only min replicas stay, one at least. Default: none."
    )
    profile: Path | None = Field(
        None,
        description="What one replica can do, as `clinserve profile` writes it; relative to this file. Default: "
        "the one in server.state_dir, else queues and goals alone decide.",
    )

    @model_validator(mode="after")
    def _min_is_below_max(self) -> Self:
        if self.min > self.max:
            raise ValueError("min: is above max")
        return self
