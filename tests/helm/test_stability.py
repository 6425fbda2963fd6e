"""What builds a second cluster, with as many GPUs, and what does not: README, "What doubles the GPUs".

KubeRay compares a hash of rayClusterConfig without numbers of replicas and without groups appended at the end. So that
part must be the same, byte for byte, whatever else changes; and what must change it is tested too.
"""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.helm.chart import CHART, STORIES, Rendered, Tree, merged, render, rendered, story

STORY = story("aks")
MODELS: list[Tree] = STORY["deployments"]
NEW: Tree = MODELS[1] | {"name": "med42-8b"}


def compared(wanted: Rendered) -> str:
    """What KubeRay hashes, but for the groups appended at the end."""
    return re.sub(r"^ *(replicas|minReplicas|maxReplicas): .*\n", "", wanted.cluster_text, flags=re.MULTILINE)


IN_PLACE: dict[str, Tree] = {
    "a limit": {"deployments": [merged(MODELS[0], {"limits": {"max_tokens": 16}}), *MODELS[1:]]},
    "a price": {"deployments": [merged(MODELS[0], {"price": {"prompt": "9"}}), *MODELS[1:]]},
    "a model's weights": {"deployments": [merged(MODELS[0], {"model": {"digest": f"sha256:{'a' * 64}"}}), *MODELS[1:]]},
    "an engine argument": {"deployments": [merged(MODELS[0], {"engine": {"args": {"max_num_seqs": 8}}}), *MODELS[1:]]},
    "a new model": {"deployments": [*MODELS, NEW]},
    "a model less": {"deployments": [merged(MODELS[0], {"spill_to": None}), MODELS[1]]},
    "more replicas": {"deployments": [MODELS[0] | {"replicas": 5}, *MODELS[1:]]},
    "more gateways": {"config": {"gateway": {"replicas": 5}}},
    "another quota": {"config": {"quotas": {"defaults": {"key": {"requests_per_minute": 7}}}}},
    "another issuer": {"config": {"identity": {"issuers": []}}},
    "labels": {"commonLabels": {"team": "ml"}},
    "the edge": {"httpRoute": {"enabled": False}, "edge": {"docs": True}},
    "monitoring": {"monitoring": {"podMonitor": {"enabled": False}, "dashboards": {"enabled": False}}},
    "policies": {"networkPolicy": {"enabled": False}},
    "jobs": {"jobs": {"prepareSeconds": 9}, "weights": {"prefetch": {"enabled": False}}, "demoKey": {"enabled": True}},
    "the way of upgrades": {"upgrade": {"strategy": "None"}},
}


@pytest.mark.parametrize("change", IN_PLACE)
def test_applied_in_place(change: str) -> None:
    assert compared(render(merged(STORY, IN_PLACE[change]))) == compared(rendered("aks"))


ANEW: dict[str, Tree] = {
    "the image": {"image": {"digest": f"sha256:{'4' * 64}"}},
    "Ray's version": {"rayVersion": "2.61.0"},
    "environment": {"extraEnv": [{"name": "HF_TOKEN", "value": "x"}]},
    "the longest stream": {"config": {"server": {"max_stream": "2h"}}},
    "the time to stop": {"config": {"server": {"drain_timeout": "9m"}}},
    "a pod's memory": {"gatewayPods": {"memory": "9Gi"}},
    "no identity": {
        "azureWorkloadIdentity": {"clientId": ""},
        "secrets": {"existingSecret": "x", "keyVaultCsi": {"enabled": False}},
    },
    "a volume": {"extraVolumes": [{"name": "x", "emptyDir": {}}]},
    "the order of groups": {"workerGroups": STORY["workerGroups"][::-1]},
}


@pytest.mark.parametrize("change", ANEW)
def test_built_anew(change: str) -> None:
    assert compared(render(merged(STORY, ANEW[change]))) != compared(rendered("aks"))


@pytest.mark.parametrize("name", STORIES)
def test_a_new_version_of_the_chart_changes_nothing_of_the_cluster(name: str, tmp_path: Path) -> None:
    newer = tmp_path / "clinserve"
    shutil.copytree(CHART, newer)
    described = yaml.safe_load((newer / "Chart.yaml").read_text()) | {"version": "9.9.9", "appVersion": "9.9.9"}
    (newer / "Chart.yaml").write_text(yaml.safe_dump(described))
    after = render(story(name), chart=newer, is_upgrade=True, revision=7)
    assert after.cluster_text == rendered(name).cluster_text
    assert after.rayservice["metadata"]["labels"]["helm.sh/chart"] == "clinserve-9.9.9"


@pytest.mark.parametrize("name", STORIES)
def test_rendered_twice_it_is_the_same(name: str) -> None:
    assert render(copy.deepcopy(story(name))).files == rendered(name).files


def test_a_group_appended_at_the_end_leaves_those_before_it_as_they_are() -> None:
    more = {"name": "l40s", "gpus": 1, "acceleratorType": "L40S", "cpu": 8, "memory": "64Gi"}
    after = render(merged(STORY, {"workerGroups": [*STORY["workerGroups"], more]}))
    before = rendered("aks")
    assert compared(after).startswith(compared(before).rstrip())
    assert list(after.groups) == [*before.groups, "l40s"]


def test_each_engine_is_told_of_itself_alone() -> None:
    """Ray Serve starts an application anew when its args change."""

    def args(wanted: Rendered) -> dict[str, Tree]:
        return {one["name"]: one["args"] for one in wanted.serve_config["applications"]}

    before = args(rendered("aks"))
    for change in ("a limit", "a price", "more replicas", "a new model", "another quota", "another issuer"):
        after = args(render(merged(STORY, IN_PLACE[change])))
        assert {name: told for name, told in after.items() if name in before and name != "gateway"} == {
            name: told for name, told in before.items() if name != "gateway"
        }, change
    scaled = args(render(merged(STORY, IN_PLACE["more replicas"], IN_PLACE["more gateways"])))
    assert scaled == before, "numbers of replicas are moved without starting anything anew"
    after = args(render(merged(STORY, IN_PLACE["an engine argument"])))
    assert after["engine-medgemma-27b"] != before["engine-medgemma-27b"]
    assert after["engine-medgemma-4b"] == before["engine-medgemma-4b"]


def test_the_groups_limits_come_from_the_deployments() -> None:
    def limits(group: str, *changes: Tree) -> tuple[int, int]:
        found = render(merged(STORY, *changes)).groups[group]
        return found["minReplicas"], found["maxReplicas"]

    assert limits("h100") == (2, 2)  # two replicas of two GPUs, on pods with two
    assert limits("a100") == (3, 4)  # maxReplicas of the group's own
    assert limits("gateway") == (3, 3)
    sharing = {"workerGroups": [STORY["workerGroups"][0] | {"gpus": 4}, STORY["workerGroups"][1]]}
    assert limits("h100", sharing) == (1, 1)
    two = {"deployments": [*MODELS, MODELS[0] | {"name": "other", "replicas": 1}]}
    assert limits("h100", two) == (3, 3)
    assert limits("h100", two, sharing) == (2, 2)  # six GPUs, packed; at most each on pods of its own
