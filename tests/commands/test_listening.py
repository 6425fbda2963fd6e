"""`clinserve serve` in one process, on IPv4 and IPv6, asked by clients old and new over real sockets."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
import yaml

from serving.commands.serve import CannotStart, check_address
from serving.protocol.addresses import origin_of, reachable
from tests.local import chat


@dataclass(frozen=True)
class Listening:
    """A server, and what it printed when it was ready."""

    port: int
    key: str
    printed: str


@pytest.fixture(scope="module", params=["::1", "::", "127.0.0.1"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    folder = tmp_path_factory.mktemp("listening")
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        port = probe.getsockname()[1]
    server = {"runtime": "process", "host": request.param, "port": port, "state_dir": str(folder / "state")}
    tree = {
        "server": server,
        "keys": {"demo_key_file": "demo.key"},
        "telemetry": {"metrics": False},
        "deployments": [{"name": "echo", "engine": {"kind": "echo"}}],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", "serving.cli", "serve", "-c", str(folder / "config.yaml")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "400"}) as process:
        assert process.stdout
        printed = ""
        try:
            while "Ctrl-C stops" not in printed and (line := process.stdout.readline()):
                printed += line
            yield Listening(port, (folder / "state" / "demo.key").read_text().strip(), printed)
        finally:
            process.terminate()
            process.stdout.close()


def test_the_printed_address_is_one_that_answers(server: Listening) -> None:
    url = next(word for word in server.printed.split() if word.startswith("http://"))
    answer = httpx.get(f"{url}/models", headers={"api-key": server.key})
    assert answer.status_code == 200 and answer.json()["data"][0]["id"] == "echo"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_of_http_1_0_gets_an_answer_without_chunks(server: Listening, stream: bool) -> None:
    """Chunks came with HTTP/1.1 (RFC 9112, 7.1): to a client of 1.0 their sizes are part of the text."""
    body = json.dumps(chat(stream=stream)).encode()
    head = f"POST /v1/chat/completions HTTP/1.0\r\napi-key: {server.key}\r\ncontent-length: {len(body)}\r\n\r\n"
    with connected(server) as client:
        client.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    headers, _, text = answer.partition(b"\r\n\r\n")
    assert b" 200 " in headers.splitlines()[0] and b"chunked" not in headers
    assert text.startswith(b"data: {") and text.endswith(b"data: [DONE]\n\n") if stream else json.loads(text)


def test_an_idle_connection_lasts_as_long_as_it_is_set(server: Listening) -> None:
    """uvicorn's own five seconds are less than any load balancer's."""
    if "127.0.0.1" not in server.printed:
        return
    with connected(server) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b'{"status":"ok"}'):
            answer += client.recv(65536)
        client.settimeout(6)
        with pytest.raises(TimeoutError):
            client.recv(65536)


def connected(server: Listening) -> socket.socket:
    host = "127.0.0.1" if "127.0.0.1" in server.printed else "::1"
    return socket.create_connection((host, server.port), timeout=20)


def test_what_listens_everywhere_is_reached_on_this_machine() -> None:
    assert [reachable(host) for host in ("0.0.0.0", "::", "::1", "[::1]", "10.0.0.7")] == [
        "127.0.0.1", "::1", "::1", "::1", "10.0.0.7",
    ]  # fmt: skip
    assert (origin_of("::", 8000), origin_of("0.0.0.0", 80)) == ("http://[::1]:8000", "http://127.0.0.1:80")


@pytest.mark.parametrize("host", ["::1", "127.0.0.1", "localhost"])
def test_a_port_that_is_taken_is_told_before_anything_starts(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with (
        socket.create_server((host, 0), family=family) as taken,
        pytest.raises(CannotStart, match="Address already in use"),
    ):
        check_address(host, taken.getsockname()[1])


def test_an_address_of_no_machine_is_told_too() -> None:
    for host in ("no-such-host.invalid", "2001:db8::1"):
        with pytest.raises(CannotStart, match="cannot listen on"):
            check_address(host, 0)
