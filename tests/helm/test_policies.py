"""What others check: checkov on every pod that the chart brings, promtool on the rules that it carries."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.helm.chart import ROOT, STORIES, rendered
from tests.helm.schemas import pod_templates
from tests.observability.prometheus import tool

CHECKOV = ROOT / ".venv" / "checkov" / "bin" / "checkov"
ARGUED = {
    "CKV_K8S_8": "liveness: KubeRay puts in Ray's own, which know about its token; jobs end by themselves",
    "CKV_K8S_9": "readiness: the same",
    "CKV_K8S_15": "pull policy Always: images are named by digest, and a registry that is away must stop no pod",
    "CKV_K8S_43": "digests: the stories default and laptop name a tag; NOTES say what a digest is worth",
    "CKV_K8S_38": "a token for the API server: Ray's autoscaler, in the head's pod, asks for pods; nobody else has one",
    "CKV_K8S_35": "secrets as variables: the administrator's and the test's key, in short jobs; all others are files",
}


def test_checkov_finds_nothing_that_is_not_argued(tmp_path: Path) -> None:
    if not CHECKOV.exists():
        (pytest.fail if "CI" in os.environ else pytest.skip)("checkov is not installed: make setup-dev installs it")
    for name in STORIES:
        objects = [one for one in rendered(name).objects if one["kind"] != "RayService"]
        for template in pod_templates(rendered(name).rayservice):  # checkov does not look into a RayService
            named = {"name": f"ray-{len(objects)}"} | template["metadata"]
            objects.append({"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": template["spec"]})
        objects = [one | {"metadata": {"namespace": "models"} | one["metadata"]} for one in objects]
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump_all(objects))
    options = ["--framework", "kubernetes", "--skip-download", "-o", "json", "--quiet", "--compact"]
    command = [CHECKOV, "-d", tmp_path, *options]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"LOG_LEVEL": "ERROR"})
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 500 and report["summary"]["parsing_errors"] == 0
    failed = {(one["check_id"], one["check_name"], one["resource"]) for one in report["results"]["failed_checks"]}
    assert {one for one in failed if one[0] not in ARGUED} == set()
    assert set(ARGUED) <= {one[0] for one in failed}, "an argument without a finding is out of date"


def test_promtool_takes_the_rules_that_are_carried(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(yaml.safe_dump(rendered("locked-down").one("PrometheusRule")["spec"]))
    done = subprocess.run([tool("promtool"), "check", "rules", rules], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ours = [
        yaml.safe_load(file.read_text())["groups"]
        for file in sorted((ROOT / "deploy/observability/rules").glob("*.yml"))
    ]
    assert yaml.safe_load(rules.read_text())["groups"] == [group for groups in ours for group in groups]


def test_the_dashboards_that_are_carried_are_ours() -> None:
    carried = {
        file: text
        for one in rendered("aks").of("ConfigMap")
        if "dashboard" in one["metadata"]["name"]
        for file, text in one["data"].items()
    }
    ours = {
        file.name: json.loads(file.read_text()) for file in (ROOT / "deploy/observability/dashboards").glob("*.json")
    }
    assert {name: json.loads(text) for name, text in carried.items()} == ours
