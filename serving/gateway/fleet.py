"""How many replicas of a deployment there are, and what it took to start one. Who runs them is not known here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from serving.scaling.told import Told

Phase = Literal["node", "weights", "engine", "warm_up"]
"""Of a start: until there is a machine and a process; until its weights are there and verified; until they are loaded
and compiled; until it has answered once."""


@dataclass(frozen=True, slots=True)
class Start:
    """One start of a replica. at: Unix time of its end. phases: seconds of each, in their order."""

    at: float
    phases: Mapping[Phase, float]

    @property
    def seconds(self) -> float:
        return sum(self.phases.values())


@dataclass(frozen=True, slots=True)
class Replicas:
    """running: answer requests. starting, stopping: will, and did. last_start: None until one is known."""

    running: int
    starting: int
    stopping: int
    last_start: Start | None = None


class Fleet(Protocol):
    async def replicas(self) -> Mapping[str, Replicas]:
        """By deployment, of those whose replicas are ours. Never raises; empty when nobody can tell."""
        ...

    async def scaling(self) -> Mapping[str, Told]:
        """By deployment, of those whose number of replicas follows the load. Never raises."""
        ...


class NoFleet:
    """Engines that run elsewhere, or in this process."""

    async def replicas(self) -> Mapping[str, Replicas]:
        return {}

    async def scaling(self) -> Mapping[str, Told]:
        return {}
