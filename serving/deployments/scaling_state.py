"""What the scaling policy knows and last decided, kept where every process of the cluster can read it.

Ray's own key-value store, which Serve keeps its targets in too: no process of ours, small, and it lives as long as the
cluster's state. `ray.experimental.internal_kv` is no public API: it is used here only, pinned, tests/e2e covers it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

_NAMESPACE = "clinserve-scaling"


@dataclass(frozen=True, slots=True)
class Change:
    """at: seconds since 1970. before, after: replicas."""

    at: float
    before: int
    after: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class ScalingState:
    """changes: how many there have been, by reason. latest: the last of them. spent: see scaling/history.py."""

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
    latest: tuple[Change, ...]
    spent: tuple[tuple[float, float], ...]


class State:
    """Of one deployment. One process writes it, the controller."""

    KEPT = 20
    """Changes that are remembered."""

    def __init__(self, deployment: str) -> None:
        self._key = deployment

    def write(self, state: ScalingState) -> None:
        from ray.experimental.internal_kv import _internal_kv_put

        _internal_kv_put(self._key, json.dumps(asdict(state)), overwrite=True, namespace=_NAMESPACE)

    def read(self) -> ScalingState | None:
        """None before the first decision."""
        from ray.experimental.internal_kv import _internal_kv_get

        found = _internal_kv_get(self._key, namespace=_NAMESPACE)
        return _parsed(json.loads(found)) if found else None


def _parsed(tree: dict[str, Any]) -> ScalingState:
    tree["latest"] = tuple(Change(**change) for change in tree["latest"])
    tree["spent"] = tuple((began, hours) for began, hours in tree["spent"])
    return ScalingState(**tree)
