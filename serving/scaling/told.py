"""What the scaling of a deployment tells of itself: its last decision, its last changes, what it has spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    """at: seconds since 1970. before, after: replicas."""

    at: float
    before: int
    after: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Told:
    """changes: how many there have been, by reason. latest: the last of them. spent: see Spending.steps."""

    at: float
    running: int
    starting: int
    target: int
    wanted: int
    minimum: int
    maximum: int
    reason: str
    detail: str
    missed: bool
    changes: Mapping[str, int]
    latest: tuple[Change, ...] = ()
    spent: tuple[tuple[float, float], ...] = ()

    @classmethod
    def from_tree(cls, tree: Mapping[str, Any]) -> Told:
        """From what dataclasses.asdict made of it, by way of JSON."""
        latest = tuple(Change(**change) for change in tree["latest"])
        spent = tuple((began, hours) for began, hours in tree["spent"])
        return cls(**{**tree, "latest": latest, "spent": spent})
