"""How late the event loop is, as a metric. Timers inside a handler do not see it: they start when the loop has come."""

from __future__ import annotations

import asyncio

from serving.gateway.beside import Beside
from serving.telemetry.metrics import Metrics

_EVERY_SECONDS = 0.25


class Pulse(Beside):
    """Runs beside the requests."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _EVERY_SECONDS
            await asyncio.sleep(_EVERY_SECONDS)
            self._metrics.lagged(max(0.0, loop.time() - due))
