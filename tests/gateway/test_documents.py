"""What is public and the same for everybody: bytes that are made once, compressed for those who take it, or 304."""

from __future__ import annotations

import asyncio
import gzip
import re

import pytest

from tests.conftest import OpenSite

DOCUMENTS = ["/openapi.json", "/docs", "/console"]


@pytest.mark.parametrize("path", DOCUMENTS)
async def test_a_document_is_the_same_bytes_with_one_etag_and_the_second_time_none(site: OpenSite, path: str) -> None:
    client = site().client(accept="*/*")
    first, second = await asyncio.gather(client.get(path), client.get(path))
    assert first.status_code == 200 and first.content == second.content
    assert first.headers["etag"] == second.headers["etag"] and first.headers["vary"] == "accept-encoding"
    for condition in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
        again = await client.get(path, headers={"if-none-match": condition})
        assert (again.status_code, again.content) == (304, b"") and again.headers["etag"] == first.headers["etag"]
    assert (await client.get(path, headers={"if-none-match": '"other"'})).status_code == 200


@pytest.mark.parametrize("path", ["/openapi.json", "/docs"])
async def test_it_is_compressed_for_those_who_take_it_only(site: OpenSite, path: str) -> None:
    client = site().client(accept="*/*")
    for accepted, encoding in {"gzip, br": "gzip", "*": "gzip", "gzip;q=0": None, "br;q=1, identity": None}.items():
        async with client.stream("GET", path, headers={"accept-encoding": accepted}) as answer:
            raw = b"".join([piece async for piece in answer.aiter_raw()])
        assert answer.headers.get("content-encoding") == encoding, accepted
        plain = (await client.get(path, headers={"accept-encoding": "identity"})).content
        assert (gzip.decompress(raw) if encoding else raw) == plain


async def test_the_consoles_files_have_etags_too(site: OpenSite) -> None:
    client = site().client(accept="*/*")
    found = re.search(r'src="(console/[0-9a-f]{16}/app.js)"', (await client.get("/console")).text)
    assert found
    etag = (await client.get(f"/{found[1]}")).headers["etag"]
    assert (await client.get(f"/{found[1]}", headers={"if-none-match": etag})).status_code == 304
