"""Helm itself installs, upgrades, tests, rolls back and removes the stories, against a stand-in API server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import helm_python
import pytest
import yaml

from tests.helm.api_server import Cluster, api_server
from tests.helm.chart import CHART, LOAD_TEST, HelmError, Tree, merged, story

SECONDS = 20


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with api_server() as cluster:
        yield cluster


@pytest.fixture
def helm(cluster: Cluster) -> Iterator[helm_python.Config]:
    """Its releases are in memory: Helm's client for Secrets speaks protobuf."""
    with helm_python.Config(kubeconfig_content=cluster.kubeconfig, storage_driver="memory", namespace="models") as helm:
        yield helm


def limit_of(cluster: Cluster) -> int:
    (service,) = cluster.of("RayService").values()
    gateway = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"][0]
    return int(gateway["args"]["config"]["deployments"][0].get("limits", {}).get("max_tokens", 0))


def with_limit(values: Tree, limit: int) -> Tree:
    first, *others = values["deployments"]
    return merged(values, {"deployments": [merged(first, {"limits": {"max_tokens": limit}}), *others]})


@pytest.mark.parametrize("name", ["laptop", "aks"])
def test_install_upgrade_test_roll_back_uninstall(name: str, cluster: Cluster, helm: helm_python.Config) -> None:
    values = story(name)
    helm.install(CHART, "rel", with_limit(values, 100), namespace="models", timeout=SECONDS)
    assert limit_of(cluster) == 100
    first = {kind: cluster.of(kind) for kind in ("RayService", "Job")}
    assert "rel-clinserve-prepare" in first["Job"]
    assert cluster.made.index("RayService/rel-clinserve") < cluster.made.index("Job/rel-clinserve-prepare")

    cluster.made.clear()
    helm.upgrade(CHART, "rel", with_limit(values, 200), namespace="models", timeout=SECONDS)
    assert limit_of(cluster) == 200
    made = list(dict.fromkeys(one for one in cluster.made if not one.startswith("SecretProviderClass")))
    wanted = [
        "ServiceAccount/rel-clinserve-prepare",
        "ConfigMap/rel-clinserve-next-config",
        "Job/rel-clinserve-prepare",
    ]
    assert sorted(made[:2]) + made[2:3] == sorted(wanted[:2]) + wanted[2:], "before anything changes"
    after = cluster.of("RayService")["rel-clinserve"]["spec"]["rayClusterConfig"]
    assert after == first["RayService"]["rel-clinserve"]["spec"]["rayClusterConfig"]

    helm.test("rel", timeout=SECONDS)
    assert "rel-clinserve-test" in cluster.of("Pod")

    helm.rollback("rel", timeout=SECONDS)
    assert limit_of(cluster) == 100
    assert [one["status"] for one in helm.history("rel")] == ["superseded", "superseded", "deployed"]

    helm.uninstall("rel", timeout=SECONDS)
    left = {place[3] for place in cluster.objects}
    kept = {"rel-clinserve-weights"} if name == "aks" else set()  # hundreds of gigabytes
    hooks = {"rel-clinserve-next-config", "rel-clinserve-prepare", "rel-clinserve-prefetch", "rel-clinserve-test"}
    assert kept <= left <= kept | hooks


def test_an_upgrade_whose_preparation_fails_changes_nothing(cluster: Cluster, helm: helm_python.Config) -> None:
    helm.install(CHART, "rel", with_limit(story("laptop"), 100), namespace="models", timeout=SECONDS)
    cluster.fail.add("rel-clinserve-prepare")
    with pytest.raises(HelmError, match="prepare"):
        helm.upgrade(CHART, "rel", with_limit(story("laptop"), 200), namespace="models", timeout=SECONDS)
    assert limit_of(cluster) == 100


def test_a_missed_objective_fails_the_upgrade(cluster: Cluster, helm: helm_python.Config) -> None:
    helm.install(CHART, "rel", story("laptop"), namespace="models", timeout=SECONDS)
    cluster.fail.add("rel-clinserve-load-test")
    with pytest.raises(HelmError, match="load-test"):
        helm.upgrade(
            CHART, "rel", merged(story("laptop"), {"loadTest": LOAD_TEST}), namespace="models", timeout=SECONDS
        )


def test_what_an_api_server_refuses_is_not_installed(cluster: Cluster, helm: helm_python.Config) -> None:
    broken = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "dta": {}}
    with pytest.raises(HelmError, match="dta"):
        helm.install(
            CHART, "rel", merged(story("laptop"), {"extraObjects": [broken]}), namespace="models", timeout=SECONDS
        )


def test_too_old_a_kubernetes_is_refused(tmp_path: Path, cluster: Cluster, helm: helm_python.Config) -> None:
    newer = tmp_path / "clinserve"
    shutil.copytree(CHART, newer)
    described = yaml.safe_load((newer / "Chart.yaml").read_text()) | {"kubeVersion": ">=1.99.0-0"}
    (newer / "Chart.yaml").write_text(yaml.safe_dump(described))
    with pytest.raises(HelmError, match="kubeVersion"):
        helm.install(newer, "rel", story("laptop"), namespace="models", timeout=SECONDS)
