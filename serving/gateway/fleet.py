"""How many replicas of a deployment there are. Who runs them is not known here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from serving.scaling.told import Told


@dataclass(frozen=True, slots=True)
class Replicas:
    """running: answer requests. starting, stopping: will, and did."""

    running: int
    starting: int
    stopping: int


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
