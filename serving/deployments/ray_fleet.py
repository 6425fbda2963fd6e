"""How many replicas of each deployment there are, asked of Ray Serve's controller, and why so many."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ServeStatus

from serving.deployments import scaling_state
from serving.deployments.naming import app_name_of
from serving.deployments.starts import Starts
from serving.gateway.fleet import Replicas
from serving.scaling.told import Told

_KEPT_SECONDS = 1.0
"""Seconds between two questions to the controller, however many callers ask."""
_ANSWER_SECONDS = 3.0
_STARTING = ("STARTING", "UPDATING", "RECOVERING")
_STOPPING = ("STOPPING", "PENDING_MIGRATION")


class RayFleet:
    """A Fleet of the deployments of these names. scaled: those among them that scale."""

    def __init__(self, deployments: Sequence[str], scaled: Sequence[str] = ()) -> None:
        self._scaled = scaled
        self._starts = {name: Starts(name) for name in deployments}
        self._known: Mapping[str, Replicas] = {}
        self._until = 0.0
        self._asking = asyncio.Lock()

    async def replicas(self) -> Mapping[str, Replicas]:
        async with self._asking:
            if time.monotonic() >= self._until:
                self._known = await self._asked()
                self._until = time.monotonic() + _KEPT_SECONDS
        return self._known

    async def scaling(self) -> Mapping[str, Told]:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                told = await asyncio.to_thread(lambda: {name: scaling_state.read(name) for name in self._scaled})
        except Exception:  # the store's own errors are no public API, and whoever asks can do without
            return {}
        return {name: one for name, one in told.items() if one is not None}

    async def _asked(self) -> Mapping[str, Replicas]:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                status = await asyncio.to_thread(serve.status)
        except (TimeoutError, RayServeException, RayError):
            return {}
        return {
            name: replace(counted(status, name), last_start=next(reversed(await starts.read()), None))
            for name, starts in self._starts.items()
            if app_name_of(name) in status.applications
        }


def counted(status: ServeStatus, deployment: str) -> Replicas:
    """The replicas of one deployment in what Serve says of all."""
    states = [one.replica_states for one in status.applications[app_name_of(deployment)].deployments.values()]

    def count(*names: str) -> int:
        return sum(found.get(name, 0) for found in states for name in names)

    return Replicas(running=count("RUNNING"), starting=count(*_STARTING), stopping=count(*_STOPPING))
