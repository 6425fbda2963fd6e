"""One way in, on real Ray Serve with echo replicas: what listens where, what goes around the proxy, and a killed
server's port. With `server.host: 0.0.0.0`, where a port that is open is open to the network.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import openai
import pytest
import yaml

from serving.settings import METRICS_ABOVE
from tests.e2e.product import Product

pytestmark = pytest.mark.ray

CONFIG = {
    "server": {"host": "0.0.0.0"},
    "keys": {"demo_key_file": "demo.key"},
    "telemetry": {"request_log": "file"},
    "deployments": [
        {
            "name": "echo",
            "engine": {"kind": "echo", "place": "replicas", "inter_token": 0.01},
        }
    ],
}
HEALTH = "/-/healthz"
LOOPBACK = ("127.0.0.1:", "[::1]:", "[::ffff:127.0.0.1]:")


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    config = tmp_path_factory.mktemp("config") / "door.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    running = Product(tmp_path_factory.mktemp("state"), str(config))
    running.start()
    yield running
    running.stop()


def listening(product: Product) -> dict[str, list[str]]:
    """By address, the names of the product's processes that listen on it."""
    ours = {process.pid for process in product.processes()}
    found: dict[str, list[str]] = {}
    for line in subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout.splitlines():
        holders = re.findall(r'\("([^"]+)",pid=(\d+)', line)
        if names := [name for name, pid in holders if int(pid) in ours]:
            found.setdefault(line.split()[3], []).extend(names)
    return found


def test_only_the_proxy_listens_to_the_network_and_only_on_the_apis_port(product: Product) -> None:
    found = listening(product)
    outside = {where: names[0] for where, names in found.items() if not where.startswith(LOOPBACK)}
    assert outside == {f"0.0.0.0:{product.port}": "haproxy"}
    assert f"127.0.0.1:{product.port + METRICS_ABOVE}" in found


def replica_ports(product: Product) -> list[str]:
    """Where replicas and Ray's own proxy answer HTTP on this machine."""
    named = ("ray::ServeRepli", "ray::ProxyAct")
    return [where for where, names in listening(product).items() if names[0].startswith(named) and speaks_http(where)]


def speaks_http(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}{HEALTH}", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def test_around_the_proxy_nothing_is_answered(product: Product) -> None:
    ports = replica_ports(product)
    assert len(ports) >= 3, "a gateway, an engine, Ray's own proxy"
    for address in ports:
        for path in ("/v1/models", "/", "/readyz", "/_engine/echo/v1/models", "/-/routes"):
            headers = {"x-forwarded-for": "10.0.0.1", "api-key": product.key, "x-clinserve-proxy": "x"}
            answer = httpx.get(f"http://{address}{path}", headers=headers, timeout=10)
            assert answer.status_code in (403, 404) and "echo" not in answer.text, (address, path)


def test_rays_paths_and_engines_are_not_there_for_clients(product: Product) -> None:
    for path in ("/-/routes", "/%2d/routes", "/%2D/%72outes", "/-/Routes", "/_engine/echo/v1/models"):
        answer = httpx.get(f"{product.url}{path}", timeout=10)
        assert answer.status_code == 404 and "engine" not in answer.text and "gateway" not in answer.text, path


@pytest.mark.parametrize(
    "header", ["x-forwarded-for", "forwarded", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"]
)
def test_a_key_bound_to_a_network_works_from_there_whatever_a_header_says(product: Product, header: str) -> None:
    words = ["keys", "create", "--tenant", "demo", "--name", f"bound {header}", "--network", "10.0.0.0/8"]
    command = [sys.executable, "-m", "serving.cli", "--config", product.config, *words]
    said = subprocess.run(command, env=product.environment, capture_output=True, text=True, check=True).stdout
    key = re.search(r"csk_\w{8}_\w+", said)
    assert key, said
    for value in ("10.0.0.1", "for=10.0.0.1", "10.0.0.1, 10.0.0.2"):
        answer = httpx.get(f"{product.url}/v1/models", headers={"api-key": key[0], header: value}, timeout=10)
        assert answer.status_code == 403


def test_streams_go_on_beside_many_half_sent_requests_of_one_address(product: Product) -> None:
    client = openai.OpenAI(base_url=f"{product.url}/v1", api_key=product.key, max_retries=0, timeout=60)
    with ExitStack() as stack:
        for _ in range(1500):
            one = stack.enter_context(socket.socket())
            one.settimeout(5)
            one.bind(("127.0.0.2", 0))
            try:
                one.connect(("127.0.0.1", product.port))
                one.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-begun: ")
            except OSError:
                continue  # one too many
        for _ in range(5):
            words = [{"role": "user", "content": "one two three four"}]
            stream = client.chat.completions.create(model="echo", messages=words, stream=True)  # type: ignore[call-overload]
            assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)


@pytest.mark.timeout(400)
def test_a_server_that_was_killed_leaves_its_port_to_the_next(product: Product) -> None:
    """Last: it is another server afterwards."""
    shared_before, earlier = set(Path("/dev/shm").iterdir()), product.processes()
    product.stop(signal.SIGKILL)
    product.start()
    assert not [process for process in earlier if process.is_running()], "HAProxy, for one"
    answer = httpx.get(f"{product.url}/v1/models", headers={"api-key": product.key}, timeout=10)
    assert answer.status_code == 200
    product.stop()
    left = [one.name for one in Path("/dev/shm").iterdir() if one not in shared_before]
    assert not [name for name in left if name.startswith(("plasma", "psm_", "sem."))]
    assert not list((product.state_dir / "run" / "servers").iterdir()), "this one ended in order"
