"""What the chart renders is what runs: environment, secrets, Serve config and jobs, on a real Ray Serve with real vLLM.

Not here: KubeRay, pods, volumes, several machines. No cluster has run the chart.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from serving.weights.digest import digest_of
from tests.helm.chart import ROOT, Rendered, Tree, merged, render, story

pytestmark = pytest.mark.ray

MODEL = ROOT / "deploy" / "demo_model" / "clinical-demo"
DEMO: Tree = yaml.safe_load((ROOT / "deploy" / "configs" / "demo.yaml").read_text())["deployments"][0]


class Cluster:
    """One pod's worth of Ray, with the chart's environment. Paths of the pod are below `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._configs = 0

    def story(self, *changes: Tree) -> Rendered:
        """The laptop's, with this machine's port and folder, and the embedded SQLite for want of a PostgreSQL."""
        here = {
            "config": {"server": {"port": self.port, "state_dir": str(self.folder / "state")}},
            "trial": {"enabled": False},
            "state": {"existingClaim": "state"},
        }
        return render(merged(story("laptop"), here, *changes))

    def mount(self, wanted: Rendered) -> None:
        """The ConfigMap, and the Secret that `clinserve secrets` makes."""
        for name in ("etc/config", "etc/secrets", "tmp", "run"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "etc/config/clinserve.yaml").write_text(
            wanted.one("ConfigMap", "-next-config")["data"]["clinserve.yaml"]
        )
        secret = yaml.safe_load(self.run(["clinserve", "secrets"], {}).stdout)
        for name, value in secret["stringData"].items():
            (self.folder / "etc/secrets" / name).write_text(value)

    def environment(self, container: Tree) -> dict[str, str]:
        """A container's, with its paths and keys of the Secret here."""
        found = {}
        for one in container["env"]:
            if reference := one.get("valueFrom"):
                found[one["name"]] = (self.folder / "etc/secrets" / reference["secretKeyRef"]["key"]).read_text()
            else:
                found[one["name"]] = self.here(one["value"])
        return found

    def here(self, text: str) -> str:
        for pods, ours in (("/etc/clinserve", "etc"), ("/run/clinserve", "run"), ("/tmp", "tmp")):
            if text.startswith(pods):
                return text.replace(pods, str(self.folder / ours), 1)
        return text

    def run(self, command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """A container's command, to its end."""
        done = subprocess.run(
            self.command(command), cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def command(self, command: list[str]) -> list[str]:
        programs = {"clinserve": [sys.executable, "-m", "serving.cli"], "python3": [sys.executable]}
        return [*programs[command[0]], *(self.here(word) for word in command[1:])]

    def start(self, wanted: Rendered) -> None:
        pod = wanted.groups["gateway"]["template"]["spec"]
        self.run(pod["initContainers"][0]["command"], {})
        resources = {name: float(amount) for name, amount in wanted.groups["gateway"]["resources"].items()}
        environment = self.environment(pod["containers"][0]) | {"RAY_OVERRIDE_RESOURCES": json.dumps(resources)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.e2e.operator"], cwd=ROOT, env=os.environ | environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def serve(self, wanted: Rendered) -> None:
        """Hand over the Serve config and wait until all of it runs."""
        self._configs += 1
        file = self.folder / f"serve-{self._configs}.yaml"
        file.write_text(wanted.rayservice["spec"]["serveConfigV2"])
        assert self.process.stdin and self.process.stdout
        print(file, file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.strip() == "served":
                return
        raise AssertionError("Ray Serve ended")

    def engine_core(self) -> int:
        found = psutil.Process(self.process.pid).children(recursive=True)
        return next(p.pid for p in found if "VLLM::EngineCore" in " ".join(p.cmdline()))

    def chat(self, model: str, key: str) -> Tree:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Any allergies?"}]}).encode()
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/v1/chat/completions", body, headers)) as answer:
            return dict(json.load(answer))

    def stop(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        try:
            self.process.wait(60)
        finally:
            self.process.kill()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="pod-") as folder:  # short: HAProxy's socket is in it
        cluster = Cluster(Path(folder))
        wanted = cluster.story()
        cluster.mount(wanted)
        job = wanted.one("Job", "-prepare")["spec"]["template"]["spec"]["containers"][0]
        cluster.run(job["command"], cluster.environment(job))
        cluster.start(wanted)
        yield cluster
        cluster.stop()


def with_model(**changes: Any) -> Tree:
    model = DEMO["model"] | {"source": str(MODEL), "digest": digest_of(MODEL)}
    return {
        "deployments": [*story("laptop")["deployments"], DEMO | {"model": model, "replicas": 1} | changes],
        "workerGroups": [{"name": "cpu", "cpu": 4, "memory": "16Gi"}],
        "extraVolumes": [{"name": "model", "emptyDir": {}}],
    }


def test_the_laptops_story_answers_the_charts_own_test(cluster: Cluster) -> None:
    wanted = cluster.story()
    cluster.serve(wanted)
    test = wanted.one("Pod", "-test")["spec"]["containers"][0]
    command = [word if "serve-svc" not in word else cluster.url for word in test["command"]]
    said = cluster.run(command, cluster.environment(test)).stdout
    assert "Which medications does the patient take?" in said


def test_a_model_that_is_added_is_served_and_a_limit_leaves_its_engine_alone(cluster: Cluster) -> None:
    key = (cluster.folder / "etc/secrets/demo-key").read_text()
    cluster.serve(cluster.story(with_model()))
    assert cluster.chat("clinical-demo", key)["usage"]["completion_tokens"] > 3
    engine = cluster.engine_core()

    cluster.serve(cluster.story(with_model(limits={"max_tokens": 3})))
    wait_for(lambda: cluster.chat("clinical-demo", key)["usage"]["completion_tokens"] == 3)
    assert cluster.engine_core() == engine
    assert cluster.chat("echo", key)["usage"]["completion_tokens"] > 0


def test_a_pods_scrape_has_vllms_metrics_and_the_gateways(cluster: Cluster) -> None:
    container = cluster.story(with_model()).groups["cpu"]["template"]["spec"]["containers"][1]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(port) if word == "9464" else word for word in container["command"]]
    exporter = subprocess.Popen(cluster.command(command), cwd=ROOT, env=os.environ | cluster.environment(container))
    try:
        text = wait_for(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode())
    finally:
        exporter.terminate()
        exporter.wait()
    assert "vllm:num_requests_running" in text and "clinserve_requests_total" in text


def wait_for(found: Any, seconds: float = 60.0) -> Any:
    """What it gives once it is true, or does not fail any more for want of a server."""
    end = time.monotonic() + seconds
    while True:
        try:
            if value := found():
                return value
        except OSError:
            pass
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.2)
