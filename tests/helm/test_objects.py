"""Objects that name each other agree: labels, ports, volumes, claims, secrets, policies, budgets."""

from __future__ import annotations

from functools import cache
from itertools import chain

import pytest
import yaml

from tests.helm.chart import LOAD_TEST, STORIES, Rendered, Tree, merged, render, rendered, story

SECTIONS = ("demoKey", "networkPolicy", "podDisruptionBudget")
EVERYTHING: Tree = {name: {"enabled": True} for name in SECTIONS} | {
    "loadTest": LOAD_TEST,
    "networkPolicy": {"enabled": True, "apiServer": {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}]}},
    "monitoring": {"podMonitor": {"enabled": True}},
}
every_story = pytest.mark.parametrize("name", STORIES)
THEIRS = {
    "clinserve",
    "clinserve-files",
    "clinserve-state",
    "models",
    "rel-clinserve-secrets",
    "engines",
    "engines-state",
}
"""What the stories say is there, or what a controller makes."""


@cache
def whole(name: str) -> Rendered:
    return render(merged(story(name), EVERYTHING))


def matches(selector: Tree, labels: Tree) -> bool:
    wanted = selector.get("matchLabels") or {}
    fits = all(labels.get(key) == value for key, value in wanted.items())
    return fits and all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", ()))


def labels(wanted: Rendered) -> dict[str, Tree]:
    """Of every pod, by its component."""
    return {
        template["metadata"]["labels"]["app.kubernetes.io/component"]: template["metadata"]["labels"]
        for _, template in wanted.pods()
    }


@every_story
def test_every_mount_has_a_volume_and_every_volume_a_source(name: str) -> None:
    wanted = whole(name)
    there = {
        kind: {one["metadata"]["name"] for one in wanted.of(kind)}
        for kind in ("ConfigMap", "PersistentVolumeClaim", "SecretProviderClass")
    }
    for pod, template in wanted.pods():
        volumes = {one["name"]: one for one in template["spec"]["volumes"]}
        assert len(volumes) == len(template["spec"]["volumes"]), pod
        mounts = [one["name"] for c in containers(template) for one in c.get("volumeMounts", ())]
        assert set(mounts) == set(volumes), pod
        for one in volumes.values():
            if "configMap" in one:
                assert one["configMap"]["name"] in there["ConfigMap"], pod
            if "persistentVolumeClaim" in one:
                assert one["persistentVolumeClaim"]["claimName"] in there["PersistentVolumeClaim"] | THEIRS, pod
            if "csi" in one:
                assert one["csi"]["volumeAttributes"]["secretProviderClass"] in there["SecretProviderClass"], pod
            for secret in secrets_of(one):
                assert secret in THEIRS, pod


def secrets_of(volume: Tree) -> list[str]:
    sources = volume.get("projected", {}).get("sources", [])
    named = [one["secret"]["name"] for one in sources if "secret" in one]
    return [*named, volume["secret"]["secretName"]] if "secret" in volume else named


def containers(template: Tree) -> list[Tree]:
    return [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]


@every_story
def test_no_pod_writes_where_it_has_no_volume(name: str) -> None:
    for pod, template in whole(name).pods():
        for one in containers(template):
            assert one["securityContext"]["readOnlyRootFilesystem"], pod
            writable = {mount["mountPath"] for mount in one["volumeMounts"] if not mount.get("readOnly")}
            if one["name"].startswith("ray-"):
                assert writable >= {"/tmp", "/var/lib/clinserve", "/run/clinserve"}, pod


@every_story
def test_every_pod_is_denied_what_no_policy_allows_and_every_policy_means_a_pod(name: str) -> None:
    wanted = whole(name)
    pods = labels(wanted)
    policies = {
        one["metadata"]["name"].removeprefix("rel-clinserve-"): one["spec"] for one in wanted.of("NetworkPolicy")
    }
    assert policies["default-deny"]["policyTypes"] == ["Ingress", "Egress"]
    assert all(matches(policies["default-deny"]["podSelector"], one) for one in pods.values())
    for policy, spec in policies.items():
        if policy != "weights":
            assert any(matches(spec["podSelector"], one) for one in pods.values()), policy


@every_story
def test_a_disruption_budget_leaves_room_to_drain_a_node(name: str) -> None:
    wanted = whole(name)
    pods = labels(wanted)
    for one in wanted.of("PodDisruptionBudget"):
        assert one["spec"]["maxUnavailable"] == 1
        assert [pod for pod, has in pods.items() if matches(one["spec"]["selector"], has)] == [
            one["metadata"]["name"].rpartition("-")[2]
        ]
    gateways = wanted.groups["gateway"]["replicas"]
    assert bool(wanted.of("PodDisruptionBudget", "-gateway")) == (gateways > 1)


@every_story
def test_scrapes_find_every_pod_by_ports_that_it_has(name: str) -> None:
    wanted = whole(name)
    monitor = wanted.one("PodMonitor")["spec"]
    for pod, template in wanted.pods():
        if template["metadata"]["labels"]["app.kubernetes.io/component"] in ("gateway", "engine"):
            assert matches(monitor["selector"], template["metadata"]["labels"])
            names = {port["name"] for one in template["spec"]["containers"] for port in one.get("ports", ())}
            assert {one["port"] for one in monitor["podMetricsEndpoints"]} <= names, pod
    assert labels(wanted)["gateway"][monitor["jobLabel"]] == "clinserve"  # up{job="clinserve"} in the rules


@every_story
def test_services_and_routes_lead_to_pods(name: str) -> None:
    wanted = whole(name)
    for one in wanted.of("Service"):
        (pod,) = (
            template
            for _, template in wanted.pods()
            if matches({"matchLabels": one["spec"]["selector"]}, template["metadata"]["labels"])
        )
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        assert ports[one["spec"]["ports"][0]["targetPort"]] == one["spec"]["ports"][0]["port"]
    backends = [rule["backendRefs"][0] for route in wanted.of("HTTPRoute") for rule in route["spec"]["rules"]]
    assert all(one == {"name": f"{wanted.rayservice['metadata']['name']}-serve-svc", "port": 8000} for one in backends)
    paths = chain.from_iterable(rule["http"]["paths"] for one in wanted.of("Ingress") for rule in one["spec"]["rules"])
    assert all(
        one["backend"]["service"] == {"name": "rel-clinserve-serve-svc", "port": {"number": 8000}} for one in paths
    )


@every_story
def test_answers_are_neither_held_back_nor_cut_at_the_edge(name: str) -> None:
    wanted = whole(name)
    for one in wanted.of("HTTPRoute"):
        assert all(rule["timeouts"] == {"request": "0s", "backendRequest": "0s"} for rule in one["spec"]["rules"])
    for one in wanted.of("Ingress"):
        annotations = one["metadata"]["annotations"]
        assert annotations["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
        assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) >= 3600
        assert one["spec"]["tls"][0]["hosts"] == [rule["host"] for rule in one["spec"]["rules"]]


@every_story
def test_only_the_head_has_a_token_for_the_api_server(name: str) -> None:
    for pod, template in whole(name).pods():
        assert template["spec"]["automountServiceAccountToken"] == pod.endswith("/head"), pod


@every_story
def test_nothing_but_rays_autoscaler_scales(name: str) -> None:
    assert not {"HorizontalPodAutoscaler", "ScaledObject"} & {one["kind"] for one in whole(name).objects}


@every_story
def test_no_secret_is_in_any_object(name: str) -> None:
    assert not whole(name).of("Secret")


def test_engines_find_their_weights() -> None:
    for name in ("one-gpu", "aks", "locked-down"):
        wanted = rendered(name)
        sources = {
            one["model"]["source"]
            for one in wanted.serve_config["applications"][0]["args"]["config"]["deployments"]
            if "model" in one
        }
        for group, spec in wanted.groups.items():
            ray = spec["template"]["spec"]["containers"][0]
            mounts = {one["name"]: one for one in ray["volumeMounts"]}
            assert ("weights" in mounts) == (group != "gateway")
            if group != "gateway":
                downloads = any("://" in source for source in sources)
                assert mounts["weights"]["readOnly"] != downloads


def test_the_prepare_job_reads_the_configuration_that_comes_not_the_one_that_is() -> None:
    wanted = whole("default")
    job = wanted.one("Job", "-prepare")
    (config,) = (
        one["configMap"]["name"] for one in job["spec"]["template"]["spec"]["volumes"] if one["name"] == "config"
    )
    before = wanted.one("ConfigMap", config)
    assert before["metadata"]["annotations"]["helm.sh/hook"] == job["metadata"]["annotations"]["helm.sh/hook"]
    assert int(before["metadata"]["annotations"]["helm.sh/hook-weight"]) < int(
        job["metadata"]["annotations"]["helm.sh/hook-weight"]
    )
    assert yaml.safe_load(before["data"]["clinserve.yaml"])["deployments"]
