"""Who may speak to whom, for every story: README of the chart, "Network"."""

from __future__ import annotations

from functools import cache

import pytest

from tests.helm.chart import LOAD_TEST, STORIES, Rendered, Tree, merged, render, story
from tests.helm.reach import NAMESPACE, Network, Place, matches, pods_of

API_SERVER: Tree = {"networkPolicy": {"enabled": True, "apiServer": {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]}}}
EVERYTHING: Tree = {"demoKey": {"enabled": True}, "loadTest": LOAD_TEST}
every_story = pytest.mark.parametrize("name", STORIES)

SERVE, DASHBOARD, AGENT, GCS, CLIENT, REPLICA, OURS, RAYS = 8000, 8265, 52365, 6379, 10001, 30000, 9464, 8080
PORTS = (SERVE, DASHBOARD, AGENT, GCS, CLIENT, REPLICA, OURS, RAYS, 22, 443, 5432)
RAY = {"head", "gateway", "engine"}
OPERATOR = Place("operator", "kuberay-system", {"app.kubernetes.io/name": "kuberay-operator"})
PROMETHEUS = Place("prometheus", "monitoring", {"app.kubernetes.io/name": "prometheus"})
STRANGERS = [
    Place("another pod of the namespace", NAMESPACE, {"app": "x"}),
    Place("a pod elsewhere", "web", {"app": "x"}),
    Place("who calls itself the operator", "web", OPERATOR.labels),
    Place("who calls itself Prometheus", "web", PROMETHEUS.labels),
    Place("another release", NAMESPACE, {"app.kubernetes.io/name": "clinserve", "app.kubernetes.io/instance": "other"}),
    Place("a machine", address="10.9.9.9"),
    Place("the internet", address="203.0.113.7"),
]
INTERNET, METADATA = Place("the internet", address="203.0.113.7"), Place("metadata", address="169.254.169.254")
DNS = Place("dns", "kube-system", {"k8s-app": "kube-dns"})
NOT_DNS = Place("another pod of the system", "kube-system", {"app": "x"})


@cache
def whole(name: str) -> Rendered:
    return render(merged(story(name), EVERYTHING, API_SERVER if name == "laptop" else {}))


@every_story
def test_strangers_reach_nothing_whatever_they_call_themselves(name: str) -> None:
    network, pods = Network(whole(name)), pods_of(whole(name))
    reached = {
        (stranger.name, pod, port)
        for stranger in STRANGERS
        for pod, place in pods.items()
        for port in PORTS
        if network.lets(stranger, place, port)
    }
    assert reached == set()


@every_story
def test_inside_the_release_each_reaches_what_it_works_with(name: str) -> None:
    """Ray's pods are one trust domain: each reaches each at every port. All else is named."""
    network, pods = Network(whole(name)), pods_of(whole(name))
    ways = {
        (a, b, port) for a, of in pods.items() for b, to in pods.items() for port in PORTS if network.lets(of, to, port)
    }
    expected = {(a, b, port) for a in RAY & set(pods) for b in RAY & set(pods) for port in PORTS}
    expected |= {(a, b, SERVE) for a in ("test", "load-test") for b in ("gateway", "engine") if b in pods}
    if "trial" in pods:
        expected |= {("gateway", "trial", 5432), ("gateway", "trial", 6379), ("prepare", "trial", 5432)}
    assert ways == expected


@every_story
def test_operator_prometheus_and_edge_come_in_where_they_must(name: str) -> None:
    wanted = whole(name)
    network, pods = Network(wanted), pods_of(wanted)
    ray = {pod: place for pod, place in pods.items() if pod in RAY}
    assert {(pod, port) for pod, place in pods.items() for port in PORTS if network.lets(OPERATOR, place, port)} == {
        (pod, port) for pod in ray for port in (SERVE, DASHBOARD, AGENT)
    }
    scraper = Place("ama-metrics", "kube-system", {}) if name == "aks" else PROMETHEUS
    assert {(pod, port) for pod, place in pods.items() for port in PORTS if network.lets(scraper, place, port)} == {
        (pod, port) for pod in ray for port in (OURS, RAYS)
    }
    for peer in story(name).get("networkPolicy", {}).get("edge", ()):
        labels = peer.get("podSelector", {}).get("matchLabels", {})
        edge = Place("edge", peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"], labels)
        assert {(pod, port) for pod, place in pods.items() for port in PORTS if network.lets(edge, place, port)} == {
            (pod, SERVE) for pod in ("gateway", "engine") if pod in pods
        }


@every_story
def test_every_pod_finds_names_and_none_the_nodes_metadata(name: str) -> None:
    network, pods = Network(whole(name)), pods_of(whole(name))
    for pod, place in pods.items():
        assert network.lets(place, DNS, 53, "UDP") and network.lets(place, DNS, 53), pod
        assert not network.lets(place, NOT_DNS, 53, "UDP") and not network.lets(place, DNS, 443), pod
        assert not any(network.lets(place, METADATA, port) for port in (80, 443, 32526)), pod


@every_story
def test_nobody_but_a_gateway_that_was_told_so_reaches_the_internet(name: str) -> None:
    network, pods = Network(whole(name)), pods_of(whole(name))
    out = {pod for pod, place in pods.items() for port in (53, 80, 443, 6443) if network.lets(place, INTERNET, port)}
    assert out == ({"gateway"} if name == "aks" else set())


STORES: dict[str, dict[str, tuple[str, int, set[str]]]] = {
    "default": {
        "database": ("10.0.0.10", 5432, {"gateway", "prepare"}),
        "redis": ("10.0.0.11", 6380, {"gateway"}),
    },
    "locked-down": {
        "database": ("10.0.0.10", 5432, {"gateway", "prepare"}),
        "redis": ("10.0.0.11", 6380, {"gateway"}),
        "otlp": ("10.0.0.12", 4318, {"gateway", "engine"}),
    },
    "aks": {
        "database": ("10.241.0.4", 5432, {"gateway", "prepare"}),
        "redis": ("10.241.0.20", 10000, {"gateway"}),
        "Ray's Redis": ("10.241.0.36", 10000, {"head"}),
        "weights": ("10.241.0.52", 443, {"engine", "prefetch"}),
        "another model": ("10.241.0.68", 443, {"gateway"}),
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "store"), [(name, store) for name, stores in STORES.items() for store in stores])
def test_a_store_is_reached_by_those_who_use_it(name: str, store: str) -> None:
    address, port, expected = STORES[name][store]
    network, pods = Network(whole(name)), pods_of(whole(name))
    place = Place(store, address=address)
    assert {pod for pod, of in pods.items() if network.lets(of, place, port)} == expected
    assert not [pod for pod, of in pods.items() if network.lets(of, place, 22)]


@every_story
def test_only_the_head_reaches_kubernetes_own_api(name: str) -> None:
    address = "10.240.0.4" if name == "aks" else "10.0.0.1"
    network, pods = Network(whole(name)), pods_of(whole(name))
    assert {pod for pod, of in pods.items() if network.lets(of, Place("api", address=address), 443)} == {"head"}


@every_story
def test_no_policy_selects_more_than_this_release(name: str) -> None:
    other = {"app.kubernetes.io/name": "clinserve", "app.kubernetes.io/instance": "other"}
    for policy in whole(name).of("NetworkPolicy"):
        assert not matches(policy["spec"]["podSelector"], other), policy["metadata"]["name"]
        for rule in policy["spec"].get("egress") or ():
            assert rule.get("to") and (rule.get("ports") or policy["metadata"]["name"].endswith("-ray"))


def test_the_evaluator_does_refuse_and_does_allow() -> None:
    """One that said yes, or no, to everything would not be seen: without policies all is open."""
    wanted = render(merged(story("default"), {"networkPolicy": {"enabled": False}}))
    gateway = pods_of(wanted)["gateway"]
    assert Network(wanted).lets(STRANGERS[1], gateway, REPLICA) and Network(wanted).lets(gateway, INTERNET, 443)
