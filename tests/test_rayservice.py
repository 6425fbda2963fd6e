"""What Ray Serve is told of a configuration: applications of their own, and in each only what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from serving.cli import cli
from serving.rayservice import ENGINE_READS, GATEWAY_READS, serve_config_of
from serving.settings import Deployment, Settings, SettingsError

Tree = dict[str, Any]
SERVER: Tree = {"host": "0.0.0.0", "state_dir": "/var/lib/clinserve"}
MODEL: Tree = {"name": "m", "model": {"source": "org/model"}, "engine": {"kind": "vllm", "device": "cpu"}}

ECHO: Tree = {"name": "e", "engine": {"kind": "echo"}}


def told(folder: Path, **sections: Any) -> Tree:
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump({"server": SERVER, "deployments": [MODEL]} | sections))
    return serve_config_of(file)


def test_the_gateway_knows_everything_and_an_engine_only_itself(tmp_path: Path) -> None:
    other = MODEL | {"name": "n", "limits": {"max_tokens": 5}, "price": {"prompt": 1}, "replicas": 3}
    quotas = {"defaults": {"key": {"requests_per_minute": 5}}}
    gateway, first, second = told(tmp_path, deployments=[MODEL, other], quotas=quotas)["applications"]
    assert [one["route_prefix"] for one in (gateway, first, second)] == ["/", "/_engine/m", "/_engine/n"]
    assert gateway["args"]["config"]["quotas"] == quotas
    assert [one["name"] for one in gateway["args"]["config"]["deployments"]] == ["m", "n"]
    assert second["args"]["config"]["deployments"] == [MODEL | {"name": "n"}]
    assert set(second["args"]["config"]) == {"deployments", *ENGINE_READS}
    assert second["deployments"] == [{"name": "model", "num_replicas": 3}] and "deployments" not in first


def test_what_is_told_is_what_is_written_not_every_default(tmp_path: Path) -> None:
    assert told(tmp_path)["applications"][1]["args"]["config"]["server"] == {"state_dir": SERVER["state_dir"]}


def test_what_an_engine_reads_and_what_it_does_not_are_settings() -> None:
    for section, names in ENGINE_READS.items():
        assert set(names) <= set(type(getattr(Settings(deployments=(Deployment(**MODEL),)), section)).model_fields)
    assert set(GATEWAY_READS) <= set(Deployment.model_fields)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"server": SERVER | {"host": "127.0.0.1"}}, "server.host: other machines cannot reach 127.0.0.1; use 0.0.0.0"),
        ({"server": {"host": "0.0.0.0"}}, "server.state_dir: .clinserve is relative"),
        ({"deployments": [MODEL | {"model": {"source": "../m"}}]}, "model.source: ../m is relative"),
        ({"deployments": [MODEL | {"model": {"source": "/models/m"}}]}, "model.digest: a directory needs one"),
        ({"guards": [{"name": "g", "kind": "blocklist", "terms_file": "terms.txt"}]}, "guard 'g': terms_file: terms"),
        ({"deployments": [ECHO], "server": SERVER | {"runtime": "process"}}, "server.runtime: Ray Serve runs"),
        ({"deployments": [MODEL | {"replcas": 2}]}, "did you mean 'replicas'?"),
    ],
)  # fmt: skip
def test_what_works_on_one_machine_only_is_refused_with_its_mend(tmp_path: Path, sections: Tree, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        told(tmp_path, **sections)
    assert said in str(refused.value)


def test_a_directory_of_other_machines_is_not_looked_for_here(tmp_path: Path) -> None:
    pinned = {"source": "/models/on-another-machine", "digest": f"sha256:{'a' * 64}"}
    assert told(tmp_path, deployments=[MODEL | {"model": pinned}])["applications"]


def test_the_command_prints_it_or_says_each_problem_on_a_line(tmp_path: Path) -> None:
    config = told(tmp_path)
    done = CliRunner().invoke(cli, ["serve-config", "--config", str(tmp_path / "config.yaml")])
    assert yaml.safe_load(done.stdout) == config
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"deployments": [MODEL]}))
    done = CliRunner().invoke(cli, ["serve-config", "--config", str(tmp_path / "config.yaml")])
    assert done.exit_code == 1 and len(done.stderr.strip().splitlines()) == 2
