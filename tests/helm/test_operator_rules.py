"""The operator's own rules (KubeRay 1.7, validation.go), which are Go code and in no schema, on every story."""

from __future__ import annotations

import re

import pytest

from tests.helm.chart import STORIES, Rendered, Tree, merged, render, rendered, story
from tests.helm.schemas import pod_templates

every_story = pytest.mark.parametrize("name", STORIES)


def environment(pod: Tree) -> dict[str, object]:
    return {
        one["name"]: one.get("value") for container in pod["spec"]["containers"] for one in container.get("env", ())
    }


@every_story
def test_its_name_leaves_room_for_what_the_operator_appends(name: str) -> None:
    for release in ("rel", "r" * 53, "a-clinserve-for-all-the-wards-of-this-hospital-group"):
        found = render(story(name), release=release).rayservice["metadata"]["name"]
        assert len(found) <= 47 and re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", found)


@every_story
def test_token_authentication_has_a_ray_that_knows_it(name: str) -> None:
    cluster = rendered(name).cluster
    assert tuple(map(int, cluster["rayVersion"].split("."))) >= (2, 52, 0)
    assert cluster["authOptions"]["mode"] == "token" and "enableK8sTokenAuth" not in cluster["authOptions"]
    assert "RAY_AUTH_MODE" not in environment(cluster["headGroupSpec"]["template"])  # the operator's to set


@every_story
def test_what_belongs_to_the_service_is_not_in_its_cluster(name: str) -> None:
    cluster = rendered(name).cluster
    assert "upgradeStrategy" not in cluster and "headService" not in cluster["headGroupSpec"]


@every_story
def test_autoscaler_v2_has_pods_that_are_not_restarted_and_is_asked_for_once(name: str) -> None:
    wanted = rendered(name)
    assert wanted.cluster["autoscalerOptions"]["version"] == "v2" and wanted.cluster["enableInTreeAutoscaling"]
    for template in pod_templates(wanted.rayservice):
        assert template["spec"].get("restartPolicy", "Never") == "Never"
        assert "RAY_enable_autoscaler_v2" not in environment(template)


def test_fault_tolerance_is_told_in_its_options_only() -> None:
    wanted = rendered("aks")
    head = wanted.cluster["headGroupSpec"]
    assert wanted.cluster["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"]["secretKeyRef"]["key"]
    assert "redis-password" not in head["rayStartParams"]
    assert not {"REDIS_PASSWORD", "RAY_REDIS_ADDRESS"} & set(environment(head["template"]))
    assert "ray.io/ft-enabled" not in wanted.rayservice["metadata"]["annotations"]


@every_story
def test_no_resource_is_told_twice(name: str) -> None:
    for group in (rendered(name).cluster["headGroupSpec"], *rendered(name).groups.values()):
        assert not {"resources", "labels"} & set(group["rayStartParams"])
        assert not {"CPU", "GPU", "memory"} & set(group.get("resources", {}))


@every_story
def test_every_group_has_its_smallest_and_its_largest_number_of_pods(name: str) -> None:
    for group in rendered(name).groups.values():
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] >= 1


@every_story
def test_rays_container_is_the_first_and_has_no_probes_of_its_own(name: str) -> None:
    """The operator puts in those that know about its token."""
    for template in pod_templates(rendered(name).rayservice):
        first = template["spec"]["containers"][0]
        assert first["name"] in ("ray-head", "ray-worker") and not {"command", "args"} & set(first)
        assert not [key for key in first if key.endswith("Probe")]


@every_story
def test_the_head_runs_no_replica_and_is_open_to_nobody(name: str) -> None:
    wanted = rendered(name)
    head = wanted.cluster["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0" and head["serviceType"] == "ClusterIP"
    assert wanted.rayservice["spec"]["excludeHeadPodFromServeSvc"]


@every_story
def test_the_head_may_do_what_the_autoscaler_does(name: str) -> None:
    """With a service account of ours, the operator makes neither role nor binding."""
    wanted = rendered(name)
    account = wanted.cluster["headGroupSpec"]["template"]["spec"]["serviceAccountName"]
    assert (
        wanted.one("RoleBinding")["subjects"][0]["name"]
        == account
        == wanted.one("ServiceAccount", "-head")["metadata"]["name"]
    )
    rules = {tuple(rule["resources"]): set(rule["verbs"]) for rule in wanted.one("Role")["rules"]}
    assert rules == {("pods",): {"get", "list", "watch"}, ("rayclusters",): {"get", "patch"}}


def test_mig_slices_are_told_to_ray_which_does_not_find_them_by_itself() -> None:
    group = rendered("locked-down").groups["mig"]
    limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/mig-3g.40gb"] == "1" and group["rayStartParams"]["num-gpus"] == "1"


def test_the_autoscaler_knows_the_gpu_of_a_group_without_pods() -> None:
    assert rendered("aks").groups["h100"]["resources"] == {"accelerator_type:H100": "1"}


@every_story
def test_the_old_cluster_lives_as_long_as_a_stream_and_a_pod_as_long_as_its_answers(name: str) -> None:
    for changes in ({}, {"config": {"server": {"max_stream": "90m", "drain_timeout": 600}}}):
        wanted: Rendered = render(merged(story(name), changes))
        server = wanted.serve_config["applications"][0]["args"]["config"]["server"]
        longest = {"1h": 3600, "90m": 5400}[server["max_stream"]]
        stop = {"5m": 300, 600: 600}[server["drain_timeout"]]
        assert wanted.rayservice["spec"]["rayClusterDeletionDelaySeconds"] > longest
        for template in pod_templates(wanted.rayservice):
            assert template["spec"]["terminationGracePeriodSeconds"] > 15 + stop + 15
