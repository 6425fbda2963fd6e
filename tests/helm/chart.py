"""The chart through the real Helm SDK (helm-python-sdk): the only place that knows its package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import helm_python
import yaml
from helm_python import HelmError, _native

Tree = dict[str, Any]

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "clinserve"
STORIES = {file.name.removesuffix("-values.yaml"): file for file in sorted((CHART / "ci").glob("*-values.yaml"))}
LOAD_TEST: Tree = {"enabled": True, "image": {"repository": "clinserve-load", "tag": "0.1.0"}}
NEWEST, OLDEST = "v1.36.0", "v1.29.0"

__all__ = ["CHART", "LOAD_TEST", "NEWEST", "OLDEST", "ROOT", "STORIES", "HelmError", "Rendered", "Tree"]


@dataclass(frozen=True)
class Rendered:
    """files: by path inside the chart, as text."""

    files: dict[str, str]

    @property
    def notes(self) -> str:
        return next(text for path, text in self.files.items() if path.endswith("NOTES.txt"))

    @cached_property
    def objects(self) -> list[Tree]:
        texts = (text for path, text in self.files.items() if path.endswith(".yaml"))
        return [one for text in texts for one in yaml.load_all(text, Loader=yaml.CSafeLoader) if one]

    def of(self, kind: str, name: str = "") -> list[Tree]:
        """name: how it ends."""
        return [one for one in self.objects if one["kind"] == kind and one["metadata"]["name"].endswith(name)]

    def one(self, kind: str, name: str = "") -> Tree:
        (only,) = self.of(kind, name)
        return only

    @property
    def rayservice(self) -> Tree:
        return self.one("RayService")

    @property
    def serve_config(self) -> Tree:
        config: Tree = yaml.safe_load(self.rayservice["spec"]["serveConfigV2"])
        return config

    @property
    def cluster(self) -> Tree:
        cluster: Tree = self.rayservice["spec"]["rayClusterConfig"]
        return cluster

    @property
    def cluster_text(self) -> str:
        """The part of the RayService whose change builds a second cluster, byte for byte."""
        text = next(text for path, text in self.files.items() if path.endswith("rayservice.yaml"))
        return text[text.index("rayClusterConfig:") :]

    @property
    def groups(self) -> dict[str, Tree]:
        return {group["groupName"]: group for group in self.cluster["workerGroupSpecs"]}

    def pods(self) -> Iterator[tuple[str, Tree]]:
        """Each pod that anything of this brings, as its template, with a name for it."""
        for one in self.objects:
            name = f"{one['kind']}/{one['metadata']['name']}"
            if one["kind"] == "RayService":
                yield f"{name}/head", self.cluster["headGroupSpec"]["template"]
                yield from ((f"{name}/{group}", spec["template"]) for group, spec in self.groups.items())
            elif one["kind"] == "Pod":
                yield name, {"metadata": one["metadata"], "spec": one["spec"]}
            elif template := (one.get("spec") or {}).get("template"):
                yield name, template


def story(name: str) -> Tree:
    values: Tree = yaml.safe_load(STORIES[name].read_text())
    return values


def render(
    values: Tree, *, chart: Path = CHART, kube_version: str = NEWEST, release: str = "rel", **options: Any
) -> Rendered:
    """Raises HelmError. options: of Helm's engine, such as api_versions and is_upgrade."""
    wanted = {"name": release, "namespace": "models", "kube_version": kube_version, **options}
    with helm_python.Chart.load(chart) as loaded:
        text = _native.call_string("helm_render", loaded._raw(), json.dumps(values), json.dumps(wanted))
    return Rendered(json.loads(text))


@cache
def rendered(name: str, kube_version: str = NEWEST) -> Rendered:
    """A story. Do not change what is returned."""
    return render(story(name), kube_version=kube_version)


def merged(base: Tree, *changes: Tree) -> Tree:
    """As Helm lays values files over each other: lists are replaced."""
    for change in changes:
        base = {
            **base,
            **{
                name: merged(base[name], value)
                if isinstance(value, dict) and isinstance(base.get(name), dict)
                else value
                for name, value in change.items()
            },
        }
    return base


def problems(values: Tree, **options: Any) -> str:
    """What Helm says of values that it must not accept."""
    try:
        render(values, **options)
    except HelmError as error:
        return str(error)
    raise AssertionError("these values were accepted")


def lint(values: Tree, kube_version: str = NEWEST) -> list[Tree]:
    """Findings, all of them."""
    found = helm_python.lint(CHART, values, strict=True, namespace="models", kube_version=kube_version)
    return [dict(one) for one in found.get("messages", [])]
