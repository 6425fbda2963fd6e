"""What the last starts of a deployment took, phase by phase: measured by the replica, kept in Ray's own store.

There every gateway finds them, also one that was started while the deployment slept. They are gone with Ray's head.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ray.exceptions import RayError
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put
from ray.serve.exceptions import RayServeException

from serving.gateway.fleet import Phase, Start

_log = logging.getLogger(__name__)
_NAMESPACE = b"clinserve-starts"
_KEPT = 5
_KNOWN_SECONDS = 5.0


class Stopwatch:
    """Of one start. asked: when the replica was asked for, by the clock."""

    def __init__(self, asked: float, clock: Callable[[], float] = time.time) -> None:
        self._last = asked
        self._clock = clock
        self._phases: dict[Phase, float] = {}

    def passed(self, phase: Phase) -> None:
        """It ends now."""
        now = self._clock()
        self._phases[phase] = max(0.0, now - self._last)
        self._last = now

    def start(self) -> Start:
        return Start(at=self._last, phases=dict(self._phases))


class Starts:
    """StartTimes of one deployment, asked of the store at most every few seconds. expected: of a start, in seconds,
    while none is known.
    """

    def __init__(self, deployment: str, *, expected: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._deployment = deployment
        self._expected = expected
        self._clock = clock
        self._known: Sequence[Start] = ()
        self._until = float("-inf")

    async def last(self) -> Sequence[float]:
        return [start.seconds for start in await self.read()] or [self._expected]

    async def read(self) -> Sequence[Start]:
        """The oldest first; never raises."""
        if self._clock() >= self._until:
            self._known = await asyncio.to_thread(kept, self._deployment)
            self._until = self._clock() + _KNOWN_SECONDS
        return self._known


def keep(deployment: str, start: Start) -> None:
    """Called by the replica, once it runs. A start is worth more than its figures, so never raises."""
    starts = [*kept(deployment), start][-_KEPT:]
    text = json.dumps([asdict(one) for one in starts])
    try:
        _internal_kv_put(deployment.encode(), text.encode(), overwrite=True, namespace=_NAMESPACE)
    except Exception as error:  # the store's own errors are no public API
        _log.warning("deployment %s: what its start took is not kept: %s", deployment, type(error).__name__)


def kept(deployment: str) -> Sequence[Start]:
    try:
        text = _internal_kv_get(deployment.encode(), namespace=_NAMESPACE)
        return [Start(**one) for one in json.loads(text)] if text else []
    except Exception:  # likewise
        return []


def asked_at() -> float:
    """When the controller asked Ray for the replica that this runs in: before there was a node and a process for it.
    Now, where it cannot tell.
    """
    from ray import serve
    from ray.serve.context import _get_global_client

    try:
        ours = serve.get_replica_context().replica_id.unique_id
        found = _started_at(ours, _get_global_client().get_serve_details())
    except (RayError, RayServeException, RuntimeError, KeyError, AttributeError, TypeError):
        found = None
    return time.time() if found is None else found


def _started_at(replica: str, details: dict[str, Any]) -> float | None:
    """details: of Serve's REST API (https://docs.ray.io/en/latest/serve/api/index.html#serve-rest-api)."""
    for application in details["applications"].values():
        for deployment in application["deployments"].values():
            for one in deployment["replicas"]:
                if one["replica_id"] == replica:
                    return float(one["start_time_s"])
    return None
