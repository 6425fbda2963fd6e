"""The runtime without a proxy before it has the proxy's limits: connections of one address, and headers in time."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import uvicorn

from serving.commands.http_server import limited, server_of
from serving.deployments.environment import free_ports
from tests.conftest import OpenSite
from tests.local import chat

BEGUN = b"GET /livez HTTP/1.1\r\nhost: x\r\nx-begun: "


@contextmanager
def serving(server: uvicorn.Server) -> Iterator[str]:
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.config.port}"
    finally:
        server.should_exit = True
        thread.join()


def server_with(site: OpenSite, **limits: float) -> uvicorn.Server:
    server = server_of(site().app, host="127.0.0.1", port=free_ports(1)[0], connections=0)
    server.config.http = limited(**limits)  # type: ignore[arg-type]
    return server


def connected(url: str, source: str, stack: ExitStack, data: bytes = BEGUN) -> socket.socket:
    one = stack.enter_context(socket.socket())
    one.settimeout(5)
    one.bind((source, 0))
    one.connect(("127.0.0.1", int(url.rsplit(":", 1)[1])))
    one.sendall(data)
    return one


def is_ended(one: socket.socket, seconds: float) -> bool:
    one.settimeout(seconds)
    try:
        return one.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_one_address_with_many_half_sent_requests_leaves_room_for_others(site: OpenSite) -> None:
    with serving(server_with(site, connections=50)) as url, ExitStack() as stack:
        opened = [connected(url, "127.0.0.2", stack) for _ in range(300)]
        assert httpx.get(f"{url}/livez", timeout=5).status_code == 200
        assert sum(is_ended(one, 0.01) for one in opened) == 250
        for one in opened:
            one.close()
        assert httpx.get(f"{url}/livez", timeout=5).status_code == 200


def test_headers_that_do_not_come_to_an_end_are_ended_also_of_a_second_request(site: OpenSite) -> None:
    with serving(server_with(site, connections=50, seconds=0.5)) as url, ExitStack() as stack:
        first = connected(url, "127.0.0.1", stack)
        second = connected(url, "127.0.0.1", stack, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        assert second.recv(1000).startswith(b"HTTP/1.1 200")
        second.sendall(BEGUN)
        large = connected(url, "127.0.0.1", stack, BEGUN + b"x" * 2**18)
        assert large.recv(1000).startswith(b"HTTP/1.1 4"), "at once"
        assert is_ended(first, 5) and is_ended(second, 5)


def test_a_request_whose_answer_takes_longer_than_headers_may_is_answered(site: OpenSite) -> None:
    open_site = site(echo={"first_token": 1.0})
    server = server_of(open_site.app, host="127.0.0.1", port=free_ports(1)[0], connections=0)
    server.config.http = limited(50, seconds=0.3)
    with serving(server) as url:
        headers = {"api-key": open_site.key}
        assert httpx.post(f"{url}/v1/chat/completions", headers=headers, json=chat(), timeout=20).status_code == 200


async def test_a_client_of_this_machine_is_not_believed_where_it_is(site: OpenSite) -> None:
    from ipaddress import ip_network

    from serving.app import build_keyring

    open_site = site()
    keyring = build_keyring(open_site.settings)
    _, bound = keyring.mint("ward", "bound", networks=(ip_network("10.0.0.0/8"),))
    server = server_of(open_site.app, host="127.0.0.1", port=free_ports(1)[0], connections=0)
    with serving(server) as url:
        headers = {"api-key": bound.reveal(), "x-forwarded-for": "10.0.0.1", "x-real-ip": "10.0.0.1"}
        answer = await asyncio.to_thread(httpx.get, f"{url}/v1/models", headers=headers)
    assert answer.status_code == 403
