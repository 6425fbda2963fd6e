"""`clinserve doctor`: what it finds, for people and for scripts."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from serving.cli import cli
from serving.deployments.environment import free_ports

ECHO = {"name": "echo", "engine": {"kind": "echo"}}


def findings(tmp_path: Path, tree: dict[str, Any] | str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit status and what was found, by what was looked at."""
    file = tmp_path / "config.yaml"
    file.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
    result = CliRunner().invoke(cli, ["doctor", "--json", "--config", str(file)])
    listed = json.loads(result.stdout)
    assert all(finding.keys() == {"what", "state", "detail", "remedy"} for finding in listed)
    assert all(finding["state"] in ("ok", "warning", "missing") for finding in listed)
    return result.exit_code, {finding["what"]: finding for finding in listed}


def config(*deployments: dict[str, Any], port: int | None = None) -> dict[str, Any]:
    return {"server": {"port": port or free_ports(1)[0]}, "deployments": [*deployments]}


def test_a_configuration_that_can_run_is_all_well(tmp_path: Path) -> None:
    status, found = findings(tmp_path, config(ECHO))
    assert status == 0
    assert found.keys() >= {"Python", "CPU", "memory", "GPU", "ray", "vllm", "configuration", "needs", "can start"}
    assert found["deployment echo"]["detail"] == "echo engine, not a model"


def test_a_mistake_in_the_configuration_is_told_with_the_remedy_and_the_rest_as_well(tmp_path: Path) -> None:
    status, found = findings(tmp_path, "server: {prot: 1}\ndeployments: []")
    assert status == 1 and found["configuration"]["state"] == "missing"
    assert "did you mean 'port'" in found["configuration"]["detail"] and found["configuration"]["remedy"]
    assert found["Python"]["state"] == "ok" and "can start" not in found


def test_a_port_that_is_taken_is_missing(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, found = findings(tmp_path, config(ECHO, port=taken.getsockname()[1]))
    assert status == 1 and "cannot listen" in found["can start"]["detail"]


def test_a_key_that_an_endpoint_needs_is_missing_until_it_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    far = {"name": "far", "engine": {"kind": "http", "url": "http://host/v1", "key_env": "FAR_AWAY_KEY"}}
    monkeypatch.delenv("FAR_AWAY_KEY", raising=False)
    status, found = findings(tmp_path, config(far))
    assert (status, found["deployment far"]["remedy"]) == (1, "set FAR_AWAY_KEY")
    monkeypatch.setenv("FAR_AWAY_KEY", "CANARY")
    status, found = findings(tmp_path, config(far))
    assert status == 0 and "CANARY" not in str(found)


def test_more_gpus_than_there_are_is_missing(tmp_path: Path) -> None:
    big = {"name": "big", "model": {"source": "org/model"}, "engine": {"kind": "vllm", "tensor_parallel_size": 10_000}}
    status, found = findings(tmp_path, config(big))
    assert status == 1 and found["deployment big"]["state"] == "missing"


def test_for_people_each_finding_is_a_line_and_a_remedy_another(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("deployments: []")
    result = CliRunner().invoke(cli, ["doctor", "--config", str(tmp_path / "config.yaml")])
    assert result.exit_code == 1
    assert "✓ Python: 3.1" in result.stdout and "✗ configuration: " in result.stdout
    assert "    mend the file" in result.stdout


def test_a_guard_that_cannot_be_built_is_missing_with_its_reason(tmp_path: Path) -> None:
    lists = {"kind": "blocklist", "name": "names", "terms_file": "gone.txt"}
    status, found = findings(tmp_path, config(ECHO) | {"guards": [lists, {"kind": "pii", "name": "ids"}]})
    assert status == 1 and "gone.txt" in found["guard names"]["detail"]
    assert found["guard ids"]["detail"] == "pii, annotate"
