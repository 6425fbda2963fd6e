"""How bounds stand in their columns: JSON lists, NULL for none."""

from __future__ import annotations

import json
from collections.abc import Iterable
from ipaddress import ip_network

from serving.tenants.callers import Network


def names_column(names: Iterable[str] | None) -> str | None:
    return None if names is None else json.dumps(sorted(names))


def names_in(column: str | None) -> frozenset[str] | None:
    return None if column is None else frozenset(json.loads(column))


def networks_column(networks: Iterable[Network] | None) -> str | None:
    return None if networks is None else json.dumps([str(network) for network in networks])


def networks_in(column: str | None) -> tuple[Network, ...] | None:
    return None if column is None else tuple(ip_network(text) for text in json.loads(column))
