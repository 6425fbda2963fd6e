"""Requests of nobody in particular: they take their turn, by address, and those with a good key never wait."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from serving.gateway.address_limiter import AddressLimiter, source_of
from serving.tenants.key_text import new_key_text
from tests.conftest import OpenSite
from tests.local import assert_says_when_to_come_back, chat, error_of, listening

CODE = "too_many_anonymous_requests"


async def knock(client: httpx.AsyncClient, times: int, path: str = "/v1/models", **headers: str) -> list[int]:
    """The statuses of so many requests at a time."""
    answers = await asyncio.gather(*(client.get(path, headers=headers) for _ in range(times)))
    for answer in answers:
        if answer.status_code == 429:
            error_of(answer, 429, CODE)
            assert_says_when_to_come_back(answer)
    return [answer.status_code for answer in answers]


async def test_some_wrong_keys_are_401_and_many_are_429_while_a_good_key_passes(site: OpenSite) -> None:
    open_site = site()
    stranger, friend = open_site.client(accept="*/*"), open_site.client()
    assert await knock(stranger, 20, authorization="Bearer wrong") == [401] * 20
    flood = asyncio.create_task(knock(stranger, 60, **{"api-key": new_key_text().reveal()}))
    await asyncio.sleep(0)
    for _ in range(5):
        assert (await friend.post("/v1/chat/completions", json=chat())).status_code == 200
    assert not flood.done(), "those that failed are held back, beside whom nobody waits"
    assert (await flood).count(429) >= 50
    assert (await friend.get("/v1/models")).status_code == 200


async def test_the_delay_grows_with_each_failure_and_one_address_is_not_anothers(site: OpenSite) -> None:
    client = site(server={"trusted_proxies": 1}).client(accept="*/*")
    there = {"x-forwarded-for": "2001:db8::1", "authorization": "Bearer wrong"}
    await knock(client, 40, **there)
    first, second = [await client.get("/v1/models", headers=there) for _ in range(2)]
    assert int(first.headers["retry-after-ms"]) > 1000 and first.status_code == second.status_code == 429
    neighbour = there | {"x-forwarded-for": "2001:db8::ffff"}
    assert (await client.get("/v1/models", headers=neighbour)).status_code == 429, "the same /64"
    for elsewhere in ("2001:db8:0:1::1", "192.0.2.1"):
        answer = await client.get("/v1/models", headers=there | {"x-forwarded-for": elsewhere})
        assert answer.status_code == 401
    assert (await client.get("/docs", headers={"x-forwarded-for": "2001:db8::1"})).status_code == 200


async def test_documents_and_paths_that_do_not_exist_take_turns_too_and_probes_are_never_refused(
    site: OpenSite,
) -> None:
    client = site().client(accept="*/*")
    for path in ("/docs", "/nothing/here", "/v1/models"):
        statuses = set(await knock(client, 250, path))
        assert 429 in statuses or path == "/docs", path
    assert set(await knock(client, 300, "/livez")) == {200}


def test_more_addresses_than_are_remembered_forget_the_one_that_was_quiet_for_longest() -> None:
    now = 0.0
    limiter = AddressLimiter(every=1.0, burst=1, size=2, clock=lambda: now)
    assert [limiter.take(address) for address in ("10.0.0.1", "10.0.0.2", "10.0.0.1")] == [0.0, 0.0, 1.0]
    limiter.take("10.0.0.3")
    assert limiter.take("10.0.0.1") > 0 and limiter.take("10.0.0.2") == 0.0


def test_a_delay_has_an_end_and_passes() -> None:
    now = 0.0
    limiter = AddressLimiter(every=1.0, burst=2, longest=5.0, clock=lambda: now)
    assert max(limiter.take("10.0.0.1") for _ in range(100)) == 5.0
    now = 10.0
    assert limiter.take("10.0.0.1") == 0.0


@pytest.mark.parametrize(
    ("one", "other"),
    [("::ffff:10.0.0.1", "10.0.0.1"), ("2001:db8::1", "2001:db8::2:3:4"), ("nonsense", "")],
)
def test_addresses_of_one_source(one: str, other: str) -> None:
    assert source_of(one) == source_of(other)


def test_a_body_that_comes_a_byte_at_a_time_is_ended(site: OpenSite) -> None:
    open_site = site(server={"body_timeout": 0.5})
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {open_site.key}\r\n"
    with listening(open_site.app) as url, socket.socket() as slow:
        slow.settimeout(10)
        slow.connect(("127.0.0.1", urlsplit(url).port or 0))
        slow.sendall(head.encode() + b"content-type: application/json\r\ncontent-length: 1000\r\n\r\n{")
        answer = slow.recv(1000)
    assert answer.startswith(b"HTTP/1.1 408") and b"request_timeout" in answer
