"""The front door: HAProxy with what is mended in the configuration that Ray renders, and the proof that it gives."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from serving.deployments.environment import free_ports
from serving.deployments.proxy.command import CONNECTIONS, HOST, haproxy_command
from serving.deployments.proxy.proof import PROOF, PROOF_HEADER, NoProof, OnlyThroughProxy, proof
from tests.local import listening

SECRET = "0123456789abcdef" * 4


async def told(request: Request) -> Response:
    """What comes through."""
    chain = ",".join(request.headers.getlist("x-forwarded-for"))
    return JSONResponse({"headers": {**request.headers, "x-forwarded-for": chain}})


BEHIND = Starlette(routes=[Route("/{path:path}", told, methods=["GET", "POST"])])


def rendered(folder: Path, port: int, behind: int, host: str = "127.0.0.1") -> Path:
    """Ray's configuration for one application at /, as its own code writes it."""
    from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
    from ray.serve.config import HTTPOptions

    metrics, stats = free_ports(2)
    config = HAProxyConfig(
        http_options=HTTPOptions(host=host, port=port),
        socket_path=str(folder / "admin.sock"), server_state_base=str(folder),
        server_state_file=str(folder / "server-state"), metrics_port=metrics, stats_port=stats,
        has_received_routes=True, has_received_servers=True, enable_hap_optimization=False, timeout_client_s=60,
    )  # fmt: skip
    server = ServerConfig(name="one", host="127.0.0.1", port=behind)
    engine = BackendConfig(name="engine", path_prefix="/_engine/echo", app_name="engine-echo", servers=[server])
    gateway = BackendConfig(name="gateway", path_prefix="/", app_name="gateway", servers=[server])
    file = folder / "haproxy.cfg"
    api = HAProxyApi(cfg=config, backend_configs={"e": engine, "g": gateway}, config_file_path=str(file))
    api._generate_config_file_internal()
    return file


@contextmanager
def proxied(folder: Path, **changed: str) -> Iterator[str]:
    """HAProxy before BEHIND; its address."""
    (port,) = free_ports(1)
    with listening(OnlyThroughProxy(BEHIND, proof=SECRET)) as behind:
        file = rendered(folder, port, int(behind.rsplit(":", 1)[1]))
        environment = os.environ | {PROOF: SECRET} | changed
        process = subprocess.Popen([haproxy_command(folder), "-db", "-f", str(file)], env=environment)
        try:
            url, end = f"http://127.0.0.1:{port}", time.monotonic() + 20
            while not ready(url):
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.1)
            yield url
        finally:
            process.kill()
            process.wait(10)


def ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/x", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with proxied(tmp_path_factory.mktemp("p")) as url:
        yield url


def test_behind_it_the_proof_is_believed_and_not_seen_and_a_clients_own_is_replaced(door: str) -> None:
    for given in ({}, {PROOF_HEADER: "mine"}, {PROOF_HEADER: ""}):
        seen = httpx.get(f"{door}/v1/models", headers=given).json()["headers"]
        assert PROOF_HEADER not in seen and seen["x-forwarded-for"] == "127.0.0.1"


def test_what_a_client_says_of_where_it_is_stands_left_of_what_the_proxy_saw(door: str) -> None:
    seen = httpx.get(f"{door}/x", headers={"x-forwarded-for": "10.0.0.1"}).json()["headers"]
    assert seen["x-forwarded-for"] == "10.0.0.1,127.0.0.1"


@pytest.mark.parametrize(
    "path", ["/-/routes", "/-/ROUTES", "/-/routes/", "/-/x", "/%2d/routes", "/_engine/echo/v1/models", "/_engine"]
)
def test_rays_own_paths_and_the_engines_are_not_there(door: str, path: str) -> None:
    answer = httpx.get(f"{door}{path}")
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "not_found"
    assert "engine-echo" not in answer.text and "gateway" not in answer.text


def test_a_gateway_reaches_engines_through_it_and_probes_of_the_machine_its_health(door: str) -> None:
    assert httpx.get(f"{door}/_engine/echo/v1/models", headers={PROOF_HEADER: SECRET}).status_code == 200
    assert httpx.get(f"{door}/-/healthz").text == "success"


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_a_request_that_would_become_another_protocol_is_a_plain_one(door: str, protocol: str) -> None:
    asked = {"connection": "upgrade, http2-settings", "upgrade": protocol, "sec-websocket-key": "eA==",
             "sec-websocket-version": "13", "http2-settings": "AAMAAABkAAQAAP__"}  # fmt: skip
    answer = httpx.get(f"{door}/x", headers=asked)
    assert answer.status_code == 400 or (answer.status_code == 200 and "upgrade" not in answer.json()["headers"])


@pytest.mark.parametrize("headers", [{}, {PROOF_HEADER: "x"}, {"x-forwarded-for": "10.0.0.1"}])
async def test_a_replicas_own_port_takes_nothing_that_has_not_come_through(headers: dict[str, str]) -> None:
    transport = httpx.ASGITransport(OnlyThroughProxy(BEHIND, proof=SECRET))
    async with httpx.AsyncClient(transport=transport, base_url="http://replica") as client:
        assert (await client.get("/v1/models", headers=headers)).status_code == 403
        assert (await client.get("/-/routes", headers=headers)).status_code == 404
        twice = [(PROOF_HEADER, SECRET), (PROOF_HEADER, "x")]
        assert (await client.get("/v1/models", headers=twice)).status_code == 403
        assert (await client.get("/-/healthz")).status_code == 200, "HAProxy's own check"


def test_one_address_with_many_half_sent_requests_leaves_room_for_others_and_is_let_go(tmp_path: Path) -> None:
    with proxied(tmp_path, **{CONNECTIONS: "100"}) as url, ExitStack() as stack:
        opened = [half_sent(url, "127.0.0.2", stack) for _ in range(1500)]
        assert httpx.get(f"{url}/x", timeout=5).status_code == 200
        kept = [one for one in opened if one is not None and is_open(one)]
        assert len(kept) == 100
        kept[0].settimeout(30)
        assert kept[0].recv(100).startswith(b"HTTP/1.1 408"), "after ten seconds"


def half_sent(url: str, source: str, stack: ExitStack) -> socket.socket | None:
    """A connection whose request never ends; None where it was not taken."""
    one = stack.enter_context(socket.socket())
    one.settimeout(5)
    one.bind((source, 0))
    try:
        one.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
        one.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nx-begun: ")
    except OSError:
        return None
    return one


def is_open(one: socket.socket) -> bool:
    one.settimeout(0.01)
    try:
        return one.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def test_it_listens_where_it_is_told_and_its_statistics_stay_on_the_machine(tmp_path: Path) -> None:
    with proxied(tmp_path, **{HOST: "0.0.0.0"}) as url:
        found = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=True).stdout.split()
        port = url.rsplit(":", 1)[1]
        assert f"0.0.0.0:{port}" in found
    configured = (tmp_path / "haproxy.cfg").read_text()
    binds = [line.strip() for line in configured.splitlines() if line.strip().startswith("bind ")]
    assert [line for line in binds if not line.startswith("bind 127.0.0.1:")] == [
        f'bind "${{CLINSERVE_PROXY_HOST-127.0.0.1}}:{port}" proto h1'
    ]
    assert "mode 666" not in configured


def test_a_configuration_in_which_there_is_no_place_for_the_door_is_not_started(tmp_path: Path) -> None:
    file = rendered(tmp_path, *free_ports(2))
    file.write_text(file.read_text().replace("bind 127.0.0.1", "listen-on 127.0.0.1"))
    done = subprocess.run([haproxy_command(tmp_path), "-c", "-f", str(file)], capture_output=True, text=True)
    assert done.returncode == 1 and "no place for" in done.stderr


def test_without_one_of_its_own_the_proof_is_the_clusters_and_the_proxy_works_out_the_same(tmp_path: Path) -> None:
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("token\n")
    (tmp_path / "other").write_text("another")
    ways: list[dict[str, Any]] = [
        {"RAY_AUTH_TOKEN": "token"},
        {"HOME": str(tmp_path)},
        {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "other")},
    ]
    command = haproxy_command(tmp_path / "run")
    text = command.read_text()
    command.write_text(text[: text.rindex("exec ")] + f'printf %s "${PROOF}"\n')
    for way in ways:
        said = subprocess.run([command], env={"PATH": os.environ["PATH"]} | way, capture_output=True, text=True)
        assert said.stdout == proof(way), said.stderr
    assert proof(ways[0]) == proof(ways[1]) != proof(ways[2])
    with pytest.raises(NoProof):
        proof({"HOME": "/nowhere"})
