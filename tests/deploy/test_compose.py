"""compose.yaml and the files that it mounts fit together, and fit the product. Redis is really started as it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from sqlalchemy import make_url

from serving import settings as config
from serving.deployments.environment import free_ports
from serving.secrets import Secrets

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/compose"
OBSERVABILITY = ROOT / "deploy/observability"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
INSIDE = "/usr/share/clinserve"
"""Where the image has what is in deploy/."""
SETTINGS = config.parse(yaml.safe_load((FOLDER / "clinserve.yaml").read_text().replace(INSIDE, str(ROOT / "deploy"))))


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_has_an_exact_version_and_what_is_ours_is_built(name: str) -> None:
    service = SERVICES[name]
    if "build" in service:
        assert (FOLDER / service["build"]["context"] / service["build"]["dockerfile"]).exists()
    else:
        assert re.search(r":v?\d+\.\d+\.\d+(-[\w.]+)?$|:\d+\.\d+-[\w.]+$|@sha256:[0-9a-f]{64}$", service["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_exists_and_is_not_written_to(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, *rest = volume.split(":")
        if source.startswith("."):
            assert (FOLDER / source).exists() and rest[-1] == "ro", volume
        else:
            assert source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_is_open_beyond_this_machine_or_can_gain_privileges(name: str) -> None:
    service = SERVICES[name]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service["security_opt"] == ["no-new-privileges:true"] and not service.get("privileged")


def test_secrets_are_files_that_the_script_makes_once_and_git_ignores(tmp_path: Path) -> None:
    shutil.copy(FOLDER / "secrets.sh", tmp_path)
    subprocess.run(["bash", tmp_path / "secrets.sh"], check=True)
    made = {path: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    subprocess.run(["bash", tmp_path / "secrets.sh"], check=True)
    assert {path: path.read_text() for path in made} == made
    assert all(re.fullmatch(r"[0-9a-f]{64}", text) for text in made.values()) and len(set(made.values())) == len(made)
    assert {one["file"] for one in COMPOSE["secrets"].values()} == {f"secrets/{path.name}" for path in made}
    assert "deploy/compose/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == COMPOSE["secrets"].keys()


def test_the_product_reads_its_secrets_where_compose_puts_them(tmp_path: Path) -> None:
    environment: dict[str, str] = SERVICES["clinserve"]["environment"]
    given = {}
    for name, place in environment.items():
        assert Path(place).parent == Path("/run/secrets") and Path(place).name in SERVICES["clinserve"]["secrets"]
        (tmp_path / Path(place).name).write_text(f"of {Path(place).name}")
        given[name] = str(tmp_path / Path(place).name)
    secrets = Secrets.load(tmp_path, given)
    assert secrets.database_password == "of database_password" and secrets.redis_password == "of redis_password"


def test_the_configuration_names_services_as_they_are() -> None:
    database, postgres = make_url(SETTINGS.database.url or ""), SERVICES["postgres"]["environment"]
    assert database.host == "postgres"
    assert (database.username, database.database) == (postgres["POSTGRES_USER"], postgres["POSTGRES_DB"])
    assert urlsplit(SETTINGS.quotas.redis or "").hostname == "redis"
    collector = yaml.safe_load((FOLDER / "collector.yaml").read_text())
    traces = urlsplit(SETTINGS.telemetry.traces.otlp or "")
    assert traces.hostname == "collector"
    assert collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(f":{traces.port}")


def test_the_model_is_the_demo_as_make_serve_runs_it() -> None:
    (ours,), (demo,) = SETTINGS.deployments, config.load(ROOT / "deploy/configs/demo.yaml", {}).deployments
    assert ours.engine == demo.engine and ours.name == demo.name
    folder = Path(ours.model.source).relative_to(ROOT / "deploy")
    assert f"COPY deploy/{folder} {INSIDE}/{folder}\n" in (ROOT / "deploy/images/cpu.Dockerfile").read_text()


def test_every_port_is_the_one_on_which_the_service_listens() -> None:
    assert SERVICES["clinserve"]["ports"] == [f"127.0.0.1:8000:{SETTINGS.server.port}"]
    assert SERVICES["grafana"]["environment"]["CLINSERVE_PROMETHEUS"] == "http://prometheus:9090"
    for name, port in {"prometheus": 9090, "grafana": 3000}.items():
        assert SERVICES[name]["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_prometheus_does_what_it_does_beside_make_serve() -> None:
    ours, theirs = (yaml.safe_load((folder / "prometheus.yml").read_text()) for folder in (FOLDER, OBSERVABILITY))
    (scrape,) = theirs["scrape_configs"]
    scrape["static_configs"][0]["targets"] = [f"clinserve:{SETTINGS.metrics_port}"]
    assert ours == theirs | {"rule_files": ["/etc/prometheus/rules/*.yml"]}
    observed = (OBSERVABILITY / "observe.py").read_text()
    for name, value in SERVICES["grafana"]["environment"].items():
        assert name == "GF_AUTH_DISABLE_LOGIN_FORM" or f'"{name}"' in observed, name
        assert not name.startswith("GF_") or value in ("true", "false")


def test_the_collector_uses_what_it_defines_and_defines_what_it_uses() -> None:
    collector = yaml.safe_load((FOLDER / "collector.yaml").read_text())
    for kind in ("receivers", "processors", "exporters"):
        used = {name for pipeline in collector["service"]["pipelines"].values() for name in pipeline[kind]}
        assert used == collector[kind].keys()
    (limited, *_) = collector["service"]["pipelines"]["traces"]["processors"]
    assert limited == "memory_limiter"  # what comes before it is not limited


def test_scratch_is_where_the_image_wants_it_and_programs_may_run_in_it() -> None:
    mounts = dict(entry.split(":", 1) for entry in SERVICES["clinserve"]["tmpfs"])
    assert mounts.keys() == {"/tmp", "/home/clinserve"} and "exec" in mounts["/tmp"].split(",")
    assert SERVICES["clinserve"]["read_only"] and SERVICES["clinserve"]["cap_drop"] == ["ALL"]


@pytest.mark.skipif(not shutil.which("redis-server") and not os.environ.get("CI"), reason="needs redis-server")
def test_redis_takes_its_password_from_the_file_and_answers_its_health_check(tmp_path: Path) -> None:
    (tmp_path / "redis_password").write_text("a" * 64)
    (port,) = free_ports(1)

    def here(text: str) -> str:
        for there, instead in {
            "$$": "$",
            "/run/secrets": str(tmp_path),
            "redis-server -": f"redis-server --port {port} -",
            "redis-cli": f"redis-cli -p {port}",
        }.items():
            text = text.replace(there, instead)
        return text

    shell, option, script = SERVICES["redis"]["command"]
    process = subprocess.Popen([shell, option, here(script)], cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        check = ["sh", "-c", here(SERVICES["redis"]["healthcheck"]["test"][1])]
        end = time.monotonic() + 10
        while subprocess.run(check, stderr=subprocess.DEVNULL).returncode:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.05)
        stranger = subprocess.run(["redis-cli", "-p", str(port), "ping"], capture_output=True, text=True)
        assert "NOAUTH" in stranger.stdout
    finally:
        process.terminate()
        process.wait()
