"""Ray Serve's switches: real, free of clashes, and the operator's own win."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from serving.deployments import environment
from serving.deployments.environment import SWITCHES, free_ports, haproxy_command, node_environment, serve_environment
from serving.deployments.http_middleware import middlewares
from serving.deployments.naming import app_name_of
from serving.deployments.proxy.proof import PROOF, OnlyThroughProxy
from serving.gateway.middleware import RequestId

RAY = find_spec("ray")
READERS = ["serve/_private/constants.py", "llm/_internal/serve/constants.py"]


def test_every_switch_is_one_that_ray_serve_reads(tmp_path: Path) -> None:
    assert RAY is not None
    assert RAY.origin is not None
    read = "".join((Path(RAY.origin).parent / reader).read_text() for reader in READERS)
    names = [name for name in serve_environment(max_stream=1, run_dir=tmp_path) if name.startswith("RAY_SERVE_")]
    assert len(names) > 10
    assert [name for name in names if f'"{name}"' not in read] == []


def test_an_operators_own_value_wins() -> None:
    environ = {"RAY_SERVE_HAPROXY_NBTHREAD": "7"}
    environment.apply({"RAY_SERVE_HAPROXY_NBTHREAD": "1", "RAY_AUTH_MODE": "token"}, environ)
    assert environ == {"RAY_SERVE_HAPROXY_NBTHREAD": "7", "RAY_AUTH_MODE": "token"}


def test_two_servers_on_a_machine_share_no_port_and_no_file(tmp_path: Path) -> None:
    one, other = (serve_environment(max_stream=1, run_dir=tmp_path / name) for name in "ab")
    assert len({one[name] for name in one if name.endswith("_PORT")}) == 4
    own = [name for name in one if name.endswith(("_LOC", "_PATH", "_BASE", "_FILE")) and name not in SWITCHES]
    assert len(own) == 5 and not {one[name] for name in own} & {other[name] for name in own}


def test_the_proxy_lets_the_longest_stream_finish(tmp_path: Path) -> None:
    environ = serve_environment(max_stream=3600.0, run_dir=tmp_path)
    assert int(environ["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"]) > 3600


def test_a_pod_has_the_same_switches_with_rays_own_ports_and_a_command_that_an_init_container_makes(
    tmp_path: Path,
) -> None:
    subprocess.run([sys.executable, "-m", "serving.deployments.environment", str(tmp_path)], check=True)
    pod = node_environment(max_stream=60, run_dir=tmp_path)
    assert os.access(pod["RAY_SERVE_HAPROXY_BINARY_PATH"], os.X_OK)
    here = serve_environment(max_stream=60, run_dir=tmp_path)
    assert pod.items() <= here.items() and not [name for name in pod if name.endswith("_PORT")]


def test_nothing_is_reported_to_anybody_and_the_control_plane_asks_for_a_token() -> None:
    assert (
        SWITCHES.items()
        >= {
            "RAY_USAGE_STATS_ENABLED": "0",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "RAY_AUTH_MODE": "token",
        }.items()
    )


def test_the_middleware_that_ray_serve_is_told_to_load_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{middlewares.__module__}.{middlewares.__qualname__}"
    assert SWITCHES["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] == path
    monkeypatch.setenv(PROOF, "a secret")
    inner, outer = middlewares()
    assert (repr(inner.cls), inner.kwargs) == (repr(RequestId), {"kept_under": "/_engine/"})
    assert (repr(outer.cls), outer.kwargs) == (repr(OnlyThroughProxy), {"proof": "a secret"})


def test_free_ports_differ() -> None:
    assert len(set(free_ports(20))) == 20


def test_each_deployment_is_an_application_of_its_own() -> None:
    assert app_name_of("a") != app_name_of("b") and app_name_of("gateway") != "gateway"


def test_the_statistics_of_the_proxy_stay_on_the_machine(tmp_path: Path) -> None:
    """Ray's template says `bind *:` and `bind :`; the command that starts HAProxy mends it before."""
    wanted = tmp_path / "haproxy.cfg"
    wanted.write_text("frontend a\n    bind :9101\nlisten b\n  bind *:8404\nfrontend c\n    bind 0.0.0.0:8000\n")
    subprocess.run([haproxy_command(tmp_path), "-v", "-f", str(wanted)], check=True, capture_output=True)
    assert wanted.read_text().split("\n")[1::2] == [
        "    bind 127.0.0.1:9101",
        "  bind 127.0.0.1:8404",
        "    bind 0.0.0.0:8000",
    ]


def test_the_proxy_says_where_a_client_is_once_however_often_it_is_started(tmp_path: Path) -> None:
    wanted = tmp_path / "haproxy.cfg"
    wanted.write_text("defaults\n    mode http\n    option httplog\n    option abortonclose\n")
    for _ in range(2):
        subprocess.run([haproxy_command(tmp_path), "-v", "-f", str(wanted)], check=True, capture_output=True)
    assert wanted.read_text().split("\n")[2:5] == [
        "    option httplog",
        "    option forwardfor",
        "    option abortonclose",
    ]


def test_without_a_gateway_the_proxy_says_wait_and_never_not_found(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    wanted = tmp_path / "haproxy.cfg"
    wanted.write_text(
        "defaults\n    mode http\n    timeout connect 1s\n    timeout client 5s\n    timeout server 5s\n"
        "    option httplog\n    errorfile 502 /nowhere\n    errorfile 503 /nowhere\n    errorfile 504 /nowhere\n"
        f"frontend all\n    bind 127.0.0.1:{port}\n    use_backend gone if {{ path /gone }}\n    default_backend none\n"
        'backend none\n    http-request return status 404 content-type text/plain lf-string "Path not found."\n'
        f"backend gone\n    server gone 127.0.0.1:{free_ports(1)[0]}\n"
    )
    proxy = subprocess.Popen([haproxy_command(tmp_path), "-db", "-f", str(wanted)], stderr=subprocess.DEVNULL)
    try:
        for path in ("/v1/models", "/gone"):
            answer = answered(f"http://127.0.0.1:{port}{path}")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
            assert answer.json()["error"]["code"] == "engine_unavailable"
    finally:
        proxy.kill()
        proxy.wait(10)


def answered(url: str) -> httpx.Response:
    """Once somebody listens."""
    end = time.monotonic() + 10
    while True:
        try:
            return httpx.get(url, timeout=10)
        except httpx.ConnectError:
            assert time.monotonic() < end
            time.sleep(0.1)
