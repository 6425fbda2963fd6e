"""Multipart bodies as they come: in any pieces, of any client, and of nobody's making."""

from __future__ import annotations

import logging
import logging.config

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import BodyTooLarge, InvalidRequest
from serving.gateway.multipart import Upload
from serving.protocol import bounds
from tests.batches.workshop import pieces

TYPE = "multipart/form-data; boundary=cut"
FILE = b'{"a": 1}\r\n--cu\r\n\r\n{"b": 2}\n'
BODY = (
    b"preamble\r\n--cut\r\n"
    b'Content-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--cut\r\ncontent-disposition: form-data; name="file"; filename="notes \xc3\xa4.jsonl"\r\n'
    b"Content-Type: application/jsonl\r\n\r\n" + FILE + b"\r\n"
    b'--cut\r\nContent-Disposition: form-data; name="expires_after[seconds]"\r\n\r\n3600\r\n--cut--\r\n'
).removeprefix(b"preamble\r\n")


async def read(*chunks: bytes, kind: str = TYPE) -> tuple[Upload, bytes]:
    upload = Upload(kind, pieces(*chunks))
    return upload, b"".join([piece async for piece in upload.file()])


async def test_a_body_is_the_same_wherever_it_is_cut() -> None:
    for at in range(len(BODY) + 1):
        upload, file = await read(BODY[:at], BODY[at:])
        assert file == FILE
        assert upload.fields == {"purpose": "batch", "expires_after[seconds]": "3600"}
        assert upload.name == "notes ä.jsonl"
    assert (await read(*[BODY[at : at + 1] for at in range(len(BODY))]))[1] == FILE


async def test_a_body_that_is_cut_off_anywhere_is_refused() -> None:
    for end in range(len(BODY) - len(b"--\r\n")):
        with pytest.raises(InvalidRequest):
            await read(BODY[:end])


@pytest.mark.parametrize(
    "kind",
    ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=cut"],
)
async def test_what_is_no_form_is_refused_before_it_is_read(kind: str) -> None:
    with pytest.raises(InvalidRequest, match="multipart/form-data"):
        await read(BODY, kind=kind)


@given(st.lists(st.binary(max_size=80), max_size=5), st.booleans())
async def test_garbage_is_refused_and_nothing_else_happens(chunks: list[bytes], begun: bool) -> None:
    with pytest.raises(InvalidRequest):
        await read(*([b"--cut\r\n"] if begun else []), *chunks)


async def test_what_stands_beside_the_file_is_bounded_too() -> None:
    around = b"x" * (bounds.UPLOAD_EXTRA + 1)
    file = part('Content-Disposition: form-data; name="file"; filename="b"', b"y" * 200_000) + b"--cut--\r\n"
    with pytest.raises(BodyTooLarge, match="beside its file"):
        await read(file + around)
    many = [f"x-{number}: y" for number in range(9)]
    for head in ("\r\n".join(many), "x-a: " + "y" * 5000, "x" * 5000 + ": y"):
        with pytest.raises(InvalidRequest):
            await read(part(head) + file)
    with pytest.raises(InvalidRequest, match="multipart/form-data"):
        await read(kind=TYPE + "t" * 300)
    assert (await read(file))[1] == b"y" * 200_000


def part(head: str, data: bytes = b"x") -> bytes:
    return b"--cut\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n"


ONE_FILE = part('Content-Disposition: form-data; name="file"; filename="a"')


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"".join(part(f'Content-Disposition: form-data; name="f{n}"') for n in range(100)), "too many fields"),
        (part('Content-Disposition: form-data; name="purpose"', b"x" * 100_000), "too long"),
        (part("X: " + "x" * 10_000), "too long|not valid"),
        (part("\r\n".join(f"X-{n}: y" for n in range(100))), "too many headers|not valid"),
        (ONE_FILE + ONE_FILE, "one file at a time"),
        (part('Content-Disposition: form-data; name="purpose"', b"batch"), "'file' is missing"),
        (part('Content-Disposition: form-data; name="file"', b"no file name: a field"), "'file' is missing"),
        (part("Content-Type: text/plain"), "'file' is missing"),
    ],
)
async def test_what_is_too_much_or_missing_is_refused_by_name(body: bytes, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        await read(body + b"--cut--\r\n")


async def test_a_file_under_another_name_is_a_field_and_bounded_as_one() -> None:
    other = part('Content-Disposition: form-data; name="other"; filename="b"', b"x" * 70_000)
    with pytest.raises(InvalidRequest, match="too long"):
        await read(ONE_FILE + other + b"--cut--\r\n")


async def test_no_byte_of_a_broken_body_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})  # as uvicorn does: it enables them all
    with pytest.raises(InvalidRequest):
        await read(b"--cuX Zephyrine")
    assert not caplog.records
