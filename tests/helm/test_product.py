"""The chart says nothing that the product does not: Serve config, environment, ports, commands, files, paths."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from loadtests.scenario import load as scenario
from serving import __version__, app, settings
from serving.cli import cli, metrics
from serving.commands import secrets as secrets_command
from serving.commands.serve import ADMIN_KEY
from serving.deployments.environment import node_environment
from serving.rayservice import serve_config_of
from serving.secrets import OPTIONAL, REQUIRED, vault_name
from serving.settings import parse, reference
from tests.conftest import OpenSite
from tests.helm.chart import CHART, LOAD_TEST, ROOT, STORIES, Rendered, Tree, merged, render, rendered, story
from tests.helm.schemas import pod_templates

every_story = pytest.mark.parametrize("name", STORIES)

WORDS: Tree = {  # of a deployment: every kind of engine, and what is the gateway's, what an engine's
    "deployments": [
        {"name": "a", "engine": {"kind": "echo"}},
        {"name": "b", "engine": {"kind": "http", "url": "http://x/v1", "rename": {"max_tokens": "max"}}},
        {
            "name": "c",
            "model": {"source": "org/model", "revision": "a" * 40, "notice": "no: 'quotes' \"or\" #signs"},
            "engine": {"kind": "vllm", "device": "cpu", "args": {"max_model_len": 1000000}, "env": {"A": "1"}},
            "replicas": 2, "guards": ["g"], "spill_to": "b", "priority_tier": True,
            "limits": {"max_tokens": 5}, "price": {"prompt": "0.40"},
        },
    ],
    "workerGroups": [{"name": "cpu", "cpu": 4, "memory": "8Gi"}],
    "config": {
        "guards": [{"name": "g", "kind": "blocklist", "terms": ["x"]}],
        "weights": {"connections": 2}, "secrets": {"prefix": "p-"},
        "telemetry": {"metrics": True, "log_level": "warning", "traces": {"otlp": "http://c:4318"}},
    },
    "networkPolicy": {"enabled": False},
}  # fmt: skip


def configuration(wanted: Rendered, folder: Path) -> Path:
    """The product's configuration file as the pods have it."""
    file = folder / "clinserve.yaml"
    file.write_text(wanted.one("ConfigMap", "-next-config")["data"]["clinserve.yaml"])
    return file


@every_story
def test_ray_serve_is_told_what_the_product_would_tell_it(name: str, tmp_path: Path) -> None:
    wanted = rendered(name)
    assert wanted.serve_config == serve_config_of(configuration(wanted, tmp_path))


def test_every_word_of_a_deployment_goes_where_the_product_puts_it(tmp_path: Path) -> None:
    wanted = render(merged(story("default"), WORDS))
    told = serve_config_of(configuration(wanted, tmp_path))
    assert wanted.serve_config == told
    assert [one["name"] for one in told["applications"]] == ["gateway", "engine-c"]


@every_story
def test_ray_serves_own_schema_takes_it_and_the_product_reads_every_application_of_it(name: str) -> None:
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(rendered(name).serve_config)
    for one in schema.applications:
        module, _, function = one.import_path.partition(":")
        assert callable(getattr(__import__(module, fromlist=[function]), function))
        assert parse(one.args["config"], elsewhere=True).deployments


@every_story
def test_both_copies_of_the_configuration_are_the_same(name: str) -> None:
    files = {one["data"]["clinserve.yaml"] for one in rendered(name).of("ConfigMap", "config")}
    assert len(rendered(name).of("ConfigMap", "config")) == 2 and len(files) == 1


@every_story
def test_rays_environment_is_the_products(name: str) -> None:
    wanted = node_environment(max_stream=3600, run_dir=Path("/run/clinserve"))
    del wanted["RAY_AUTH_MODE"]  # KubeRay sets it, by authOptions
    for template in pod_templates(rendered(name).rayservice):
        given = {one["name"]: one.get("value") for one in template["spec"]["containers"][0]["env"]}
        assert {key: value for key, value in given.items() if key.startswith(("RAY", "VLLM", "DO_NOT"))} == wanted


OTHERS = {"HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_OFFLINE", "AZURE_TOKEN_CREDENTIALS", "LOADTESTS_KEY"}
"""Of the system, the hub's client, Azure's client, and the load tests."""


def ours() -> set[str]:
    """Every variable of the product's own."""
    code = "".join(file.read_text() for file in (ROOT / "serving").rglob("*.py"))
    found = set(re.findall(r'"(CLINSERVE_[A-Z_]+[A-Z])"', code))
    found |= {f"{name}_FILE" for name in (*REQUIRED.values(), *OPTIONAL.values(), ADMIN_KEY)}
    return found | {f"CLINSERVE_{path.upper().replace('.', '__')}" for path, _, _ in reference()}


@every_story
def test_every_variable_is_one_that_somebody_reads(name: str) -> None:
    known = ours() | OTHERS | set(node_environment(max_stream=1, run_dir=Path("/run")))
    known |= {one["engine"].get("key_env") for one in story(name).get("deployments", ())}
    for pod, template in whole(name).pods():
        if "trial" not in pod:
            names = {one["name"] for container in template["spec"]["containers"] for one in container.get("env", ())}
            assert names - known == set(), pod
    assert "LOADTESTS_KEY" in (ROOT / "loadtests" / "__main__.py").read_text()


@cache
def whole(name: str) -> Rendered:
    return render(merged(story(name), EVERYTHING))


EVERYTHING: Tree = {"demoKey": {"enabled": True}, "loadTest": LOAD_TEST}


def test_the_secret_has_what_the_product_needs_by_the_names_that_the_chart_asks_for() -> None:
    made = set(yaml.safe_load(secrets_command.manifest("x"))["stringData"])
    assert {vault_name(one) for one in (*REQUIRED.values(), *OPTIONAL.values())} < made
    asked = render(merged(story("locked-down"), EVERYTHING)).one("ExternalSecret")["spec"]["data"]
    assert {one["secretKey"] for one in asked} == made
    classes = render(merged(story("aks"), EVERYTHING)).of("SecretProviderClass")
    brought = {
        name for one in classes for name in re.findall(r"objectAlias: (\S+)", one["spec"]["parameters"]["objects"])
    }
    assert brought == made


@every_story
def test_what_a_key_of_a_secret_is_read_from_is_made_by_clinserve_secrets(name: str) -> None:
    made = set(yaml.safe_load(secrets_command.manifest("x"))["stringData"])

    def references(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            if node.get("secretKeyRef", {"name": "engines-key"})["name"] != "engines-key":  # made in the other cluster
                yield node["secretKeyRef"]["key"]
            for one in node.values():
                yield from references(one)
        elif isinstance(node, list):
            for one in node:
                yield from references(one)

    assert set(references(render(merged(story(name), EVERYTHING)).objects)) <= made


@every_story
def test_every_command_exists_with_its_options(name: str) -> None:
    for pod, template in whole(name).pods():
        for container in [*template["spec"].get("initContainers", ()), *template["spec"]["containers"]]:
            command = container.get("command", ["nothing"])
            if command[0] == "clinserve":
                verbs = [word for word in command[1:3] if re.fullmatch("[a-z][a-z-]*", word)]
                asked = CliRunner().invoke(cli, [*verbs, "--help"], env={"COLUMNS": "200"})
                assert asked.exit_code == 0, (pod, command)
                assert all(word in asked.stdout for word in command if word.startswith("--")), command
            if command[:2] == ["python3", "-m"]:
                module = ROOT / command[2].replace(".", "/")
                assert module.with_suffix(".py").exists() or (module / "__main__.py").exists(), command
                if command[2] == "loadtests":
                    assert scenario(command[3])


def test_ports_are_the_products_and_rays() -> None:
    from ray._private import ray_constants

    assert settings.Server().port == 8000 and story("default").get("config", {}).get("server") is None
    text = (CHART / "templates" / "networkpolicy.yaml").read_text() + (CHART / "templates" / "_pod.tpl").read_text()
    rays = {
        ray_constants.DEFAULT_PORT,
        ray_constants.DEFAULT_DASHBOARD_PORT,
        ray_constants.DEFAULT_DASHBOARD_AGENT_LISTEN_PORT,
    }
    exporter = inspect.signature(metrics).parameters["port"].default
    others = {53, 443, 5432, 6379, 8080}  # DNS, HTTPS, the trial's stores, and Ray's metrics where KubeRay has them
    found = {int(one) for one in re.findall(r"(?:port|containerPort): (\d+)", text)}
    assert rays | {exporter} <= found <= rays | {exporter} | others


def test_versions_are_the_products() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    pinned = re.search(r"^ray==([\d.]+)", (ROOT / "requirements" / "serve.txt").read_text(), re.MULTILINE)
    assert pinned and values["rayVersion"] == pinned[1]
    assert chart["appVersion"] == __version__


def test_folders_are_the_products() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    known = parse({"server": values["config"]["server"], "deployments": values["deployments"]})
    (log,) = (
        one
        for one in rendered("default").groups["gateway"]["template"]["spec"]["containers"]
        if one["name"] == "request-log"
    )
    assert log["command"][-1] == str(app.request_log_file(known))
    mounted = {mount["mountPath"] for mount in log["volumeMounts"]}
    assert mounted == {str(known.server.state_dir)}


def test_only_public_paths_are_exposed_and_all_of_them(site: OpenSite) -> None:
    """By the routes that the gateway has: those below a public path, and those that are not."""
    found = render(
        merged(
            story("aks"),
            {
                "edge": {"console": True, "docs": True},
                "ingress": {"enabled": True, "tlsSecret": "t", "hostnames": ["x"]},
            },
        )
    )
    route = {match["path"]["value"] for match in found.one("HTTPRoute")["spec"]["rules"][0]["matches"]}
    assert route == {path["path"] for path in found.one("Ingress")["spec"]["rules"][0]["http"]["paths"]}
    least = {
        match["path"]["value"] for match in rendered_without_console().one("HTTPRoute")["spec"]["rules"][0]["matches"]
    }
    assert least == {"/v1", "/openai", "/models"}
    paths = {one.path for one in routes(site().app)}
    hidden = {path for path in paths if not any(path == public or path.startswith(f"{public}/") for public in route)}
    assert hidden == {"/livez", "/health", "/readyz", "/metrics"}
    assert all(any(path.startswith(public) for path in paths) for public in route)


def rendered_without_console() -> Rendered:
    return render(merged(story("aks"), {"edge": {"console": False}}))


def routes(application: object) -> list[object]:
    while not hasattr(application, "routes"):
        application = application._app if hasattr(application, "_app") else application.app  # type: ignore[attr-defined]
    return [one for one in application.routes if hasattr(one, "path")]
