"""The scaling of deployments as metrics. It is decided elsewhere, in a process that nobody scrapes."""

from __future__ import annotations

import asyncio

from serving.gateway.beside import Beside
from serving.gateway.fleet import Fleet
from serving.telemetry.metrics import Metrics

_EVERY_SECONDS = 5.0


class FleetWatch(Beside):
    """Runs beside the requests."""

    def __init__(self, fleet: Fleet, metrics: Metrics) -> None:
        self._fleet = fleet
        self._metrics = metrics

    async def _run(self) -> None:
        while True:
            for deployment, told in (await self._fleet.scaling()).items():
                self._metrics.scaled(
                    deployment,
                    replicas={
                        "running": told.running,
                        "starting": told.starting,
                        "target": told.target,
                        "wanted": told.wanted,
                        "min": told.minimum,
                        "max": told.maximum,
                    },
                    missed=told.missed,
                    changes=told.changes,
                )
            await asyncio.sleep(_EVERY_SECONDS)
