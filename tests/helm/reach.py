"""Who reaches whom under the rendered NetworkPolicies: what a network plugin would decide, for every pair and port.

Kubernetes' rule: a pod that some policy selects for a direction is closed in it but for what the policies' rules name;
a connection needs the way out of its source and the way into its target. What runs elsewhere has no policies here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from tests.helm.chart import Rendered, Tree

NAMESPACE = "models"


@dataclass(frozen=True)
class Place:
    """A pod, by its namespace and labels, or a machine, by its address."""

    name: str
    namespace: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


def pods_of(wanted: Rendered, namespace: str = NAMESPACE) -> dict[str, Place]:
    """The release's own, one for each component."""
    found = {}
    for _, template in wanted.pods():
        labels = template["metadata"]["labels"]
        name = labels["app.kubernetes.io/component"]
        found[name] = Place(name, namespace, labels)
    return found


class Network:
    """The policies of one release, in its namespace."""

    def __init__(self, wanted: Rendered, namespace: str = NAMESPACE) -> None:
        self._namespace = namespace
        self._policies: list[Tree] = [one["spec"] for one in wanted.of("NetworkPolicy")]

    def lets(self, source: Place, target: Place, port: int, protocol: str = "TCP") -> bool:
        out = self._open("Egress", source, target, port, protocol)
        return out and self._open("Ingress", target, source, port, protocol)

    def _open(self, direction: str, of: Place, other: Place, port: int, protocol: str) -> bool:
        if of.namespace != self._namespace:
            return True
        selecting = [
            one for one in self._policies if direction in one["policyTypes"] and matches(one["podSelector"], of.labels)
        ]
        return not selecting or any(self._allows(rule, other, port, protocol) for rule in _rules(direction, selecting))

    def _allows(
        self, rule: tuple[list[Tree] | None, list[Tree] | None], other: Place, port: int, protocol: str
    ) -> bool:
        peers, ports = rule
        fits = ports is None or any(
            one.get("port", port) == port and one.get("protocol", "TCP") == protocol for one in ports
        )
        return fits and (peers is None or any(self._is(peer, other) for peer in peers))

    def _is(self, peer: Tree, other: Place) -> bool:
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            return (
                bool(other.address)
                and _inside(other.address, block["cidr"])
                and not any(_inside(other.address, one) for one in block.get("except", ()))
            )
        if not other.namespace:
            return False
        own = {"kubernetes.io/metadata.name": other.namespace}
        there = (
            matches(peer["namespaceSelector"], own)
            if "namespaceSelector" in peer
            else other.namespace == self._namespace
        )
        return there and matches(peer.get("podSelector") or {}, other.labels)


def _rules(direction: str, policies: list[Tree]) -> Iterator[tuple[list[Tree] | None, list[Tree] | None]]:
    """Peers and ports of each; None: any."""
    section, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    for policy in policies:
        for rule in policy.get(section) or ():
            yield rule.get(peers) or None, rule.get("ports") or None


def _inside(address: str, block: str) -> bool:
    network = ip_network(block)
    return ip_address(address).version == network.version and ip_address(address) in network


def matches(selector: Tree, labels: Mapping[str, str]) -> bool:
    fits = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
    for one in selector.get("matchExpressions") or ():
        assert one["operator"] == "In", "the evaluator knows no other"
        fits = fits and labels.get(one["key"]) in one["values"]
    return fits
