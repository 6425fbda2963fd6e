"""What jobs and containers of the chart call: prepare, secrets, metrics."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from prometheus_client.values import MultiProcessValue
from typer.testing import CliRunner

from serving.cli import cli
from serving.commands import metrics, secrets
from serving.secrets import Secrets
from serving.tenants.key_text import is_key_text


def test_prepare_makes_tenants_takes_over_the_administrators_key_and_may_be_repeated(tmp_path: Path) -> None:
    made = yaml.safe_load(secrets.manifest("x"))["stringData"]
    (tmp_path / "demo-key").write_text(made["demo-key"])
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump({
            "server": {"state_dir": str(tmp_path / "state")},
            "keys": {"admin_key_file": None, "demo_key_file": str(tmp_path / "demo-key")},
            "deployments": [{"name": "m", "model": {"source": "/on/another/machine"}, "engine": {"kind": "vllm"}}],
        })
    )  # fmt: skip
    environment = {"CLINSERVE_ADMIN_KEY": made["admin-key"]}
    for _ in range(2):
        assert CliRunner().invoke(cli, ["prepare", "--config", str(config)], env=environment).exit_code == 0
    listed = CliRunner().invoke(cli, ["--config", str(config), "keys", "list", "--json"]).stdout
    assert made["admin-key"][:12] in listed and made["demo-key"][:12] in listed
    assert not (tmp_path / "state" / "admin.key").exists()


def test_prepare_needs_no_more_secrets_than_its_pod_has_and_takes_the_administrators_key_from_a_file(
    tmp_path: Path,
) -> None:
    made = yaml.safe_load(secrets.manifest("x"))["stringData"]
    names = ("pepper", "audit-secret", "audit-signing-key", "admin-key")
    environment = {f"CLINSERVE_{name.upper().replace('-', '_')}_FILE": str(tmp_path / name) for name in names}
    for name in names:
        (tmp_path / name).write_text(made[name])
    config, state = tmp_path / "config.yaml", tmp_path / "state"
    config.write_text(
        yaml.safe_dump({
            "server": {"state_dir": str(state)},
            "keys": {"admin_key_file": None},
            "deployments": [{"name": "e", "engine": {"kind": "echo"}}],
        })
    )  # fmt: skip
    assert CliRunner().invoke(cli, ["prepare", "--config", str(config)], env=environment).exit_code == 0
    listed = CliRunner().invoke(cli, ["--config", str(config), "keys", "list", "--json"], env=environment).stdout
    assert made["admin-key"][:12] in listed
    assert not (state / "secrets").exists(), "nothing was made in place of what is for others"


def test_prepare_says_in_one_line_what_it_lacks(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {"server": {"state_dir": str(tmp_path)}, "deployments": [{"name": "e", "engine": {"kind": "echo"}}]}
        )
    )
    done = CliRunner().invoke(
        cli, ["prepare", "--config", str(config)], env={"CLINSERVE_PEPPER_FILE": str(tmp_path / "none")}
    )
    assert (done.exit_code, len(done.stderr.strip().splitlines())) == (1, 1) and "CLINSERVE_PEPPER_FILE" in done.stderr


def test_a_secret_is_new_each_time_whole_and_what_the_product_takes(tmp_path: Path) -> None:
    one, other = (yaml.safe_load(secrets.manifest("mine", {}))["stringData"] for _ in range(2))
    assert one.keys() == other.keys() and not set(one.values()) & set(other.values())
    assert is_key_text(one["admin-key"]) and is_key_text(one["demo-key"]) and len(one[secrets.RAY_TOKEN]) == 64
    variables = {f"CLINSERVE_{name.upper().replace('-', '_')}": value for name, value in one.items()}
    assert Secrets.load(tmp_path, variables).engine.writing.text == one["engine-secret"]
    assert not (tmp_path / "secrets").exists(), "none was missing"


def test_a_password_that_is_set_is_taken_over() -> None:
    made = yaml.safe_load(secrets.manifest("x", {"CLINSERVE_DATABASE_PASSWORD": "theirs"}))["stringData"]
    assert made["database-password"] == "theirs" != made["redis-password"]


def test_metrics_of_this_machines_processes_are_answered_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run" / "metrics"
    folder.mkdir(parents=True)
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    MultiProcessValue(lambda: 1)("counter", "vllm:prompt_tokens", "vllm:prompt_tokens_total", (), (), "Tokens.").inc(3)
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")
    server = metrics.server(folder, "127.0.0.1", 0)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        for accept in ("", "application/openmetrics-text"):
            asked = urllib.request.Request(f"{url}/metrics", headers={"accept": accept})
            assert "vllm:prompt_tokens_total 3.0" in urllib.request.urlopen(asked).read().decode()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{url}/state/secrets")
    finally:
        server.shutdown()
        server.server_close()
