"""Where the scaling policy, in Serve's controller, leaves what it tells, for gateways on any node to read.

Ray's own key-value store, where Serve keeps its targets too: no process of ours, and it lives as long as the cluster.
`ray.experimental.internal_kv` is no public API: it is used here only, pinned, and tests/e2e covers it.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from serving.scaling.told import Told

_NAMESPACE = "clinserve-scaling"


def write(deployment: str, told: Told) -> None:
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(deployment, json.dumps(asdict(told)), overwrite=True, namespace=_NAMESPACE)


def read(deployment: str) -> Told | None:
    """None before the first decision."""
    from ray.experimental.internal_kv import _internal_kv_get

    found = _internal_kv_get(deployment, namespace=_NAMESPACE)
    return Told.from_tree(json.loads(found)) if found else None
