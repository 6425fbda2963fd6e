"""Every story of the chart renders, lints and would be taken by an API server."""

from __future__ import annotations

import copy
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest

from tests.helm.chart import CHART, NEWEST, STORIES, lint, rendered, story
from tests.helm.schemas import Refused, check

VERSIONS = ["1.34", "1.35", "1.36"]
"""Of Kubernetes: those that are maintained."""
TOO_OLD = [("locked-down", "1.34")]
"""Its weights are an image volume, of 1.35."""


def test_the_stories_that_the_issue_asks_for_are_there() -> None:
    assert set(STORIES) == {"default", "laptop", "one-gpu", "aks", "locked-down", "gateways", "engines"}


@pytest.mark.parametrize(("name", "version"), [pair for pair in product(STORIES, VERSIONS) if pair not in TOO_OLD])
def test_an_api_server_would_take_every_object(name: str, version: str) -> None:
    for one in rendered(name, f"v{version}.0").objects:
        check(one, version)


@pytest.mark.parametrize("name", STORIES)
def test_helm_lints_it_strictly(name: str) -> None:
    assert [one["error"] for one in lint(story(name))] == ["icon is recommended"]


@pytest.mark.parametrize("name", STORIES)
def test_what_is_rendered_is_clean_yaml_without_a_key_twice(name: str, tmp_path: Path) -> None:
    off = ", ".join(f"{rule}: disable" for rule in ("line-length", "empty-lines", "indentation"))
    rules = f"{{extends: relaxed, rules: {{key-duplicates: enable, {off}}}}}"
    for path, text in rendered(name, NEWEST).files.items():
        if path.endswith(".yaml"):
            (tmp_path / path.replace("/", "_")).write_text(text.strip() + "\n")
    done = subprocess.run(
        [Path(sys.executable).parent / "yamllint", "-s", "-d", rules, tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_values_and_stories_are_clean_yaml_without_a_key_twice() -> None:
    rules = "{extends: relaxed, rules: {key-duplicates: enable, line-length: disable}}"
    files = [CHART / "values.yaml", CHART / "Chart.yaml", *STORIES.values()]
    done = subprocess.run(
        [Path(sys.executable).parent / "yamllint", "-s", "-d", rules, *files], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", STORIES)
def test_the_notes_say_how_to_ask(name: str) -> None:
    notes = rendered(name).notes
    assert f'{{"model": "{story(name).get("deployments", [{"name": "echo"}])[0]["name"]}"' in notes
    assert "/v1/chat/completions" in notes and "clinserve keys create" in notes
    assert ("WARNING: trial.enabled" in notes) == (name == "laptop")
    assert ("WARNING: no head.faultTolerance" in notes) == (name != "aks")


def test_the_checks_of_these_tests_do_refuse() -> None:
    """A check that lets everything through would not be seen."""
    service = rendered("default").rayservice
    for spoil in (
        lambda one: one["spec"].update(rayClusterSpec={}),
        lambda one: one["spec"]["rayClusterConfig"].update(enableInTreeAutoscalingg=True),
        lambda one: one["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"].update(restartPolcy="Never"),
        lambda one: one["spec"].update(rayClusterDeletionDelaySeconds="3660"),
        lambda one: one.update(kind="RayServce"),
    ):
        broken = copy.deepcopy(service)
        spoil(broken)  # type: ignore[no-untyped-call]
        with pytest.raises(Refused):
            check(broken)
