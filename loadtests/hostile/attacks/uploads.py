"""Files and batches: parts without end, uploads that are cut, lines that are none."""

import json
from collections.abc import AsyncIterator

from loadtests.hostile.attack import Kind, asking, gets
from loadtests.hostile.attacks.filing import multipart, run_batch, upload
from loadtests.hostile.attacks.schemas import CHAT
from loadtests.hostile.wire import Mallory

FORM = {"Content-Type": "multipart/form-data; boundary=x"}
MIB = 2**20
REFUSED = gets(400, 401, 403, 404, 405, 409, 413, 415, 422, 429)


def bad_uploads(m: Mallory, n: int) -> bytes:
    file = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    odd = (
        b"--x\r\n" * 100_000, b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n' * 60_000, file + b"a",
        b"", b"--x--\r\n" * 100_000, b"--x\r\n" + b"X-A: b\r\n" * 200_000, b"--x\r\n" + b"a" * 2 * MIB,
        b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n' + b"a" * 2 * MIB,
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="' + b"a" * 7000 + b'"\r\n\r\nb\r\n--x--\r\n',
        file + b"\r\n--x" * 300_000, file * 2000,
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="../../etc/passwd\x00"\r\n\r\na\r\n--x--\r\n',
        b"-" * MIB, b"\r\n" * MIB,
    )  # fmt: skip
    kinds = ("boundary=x", "boundary=" + "x" * 5000, "boundary=", 'boundary="x', "", "boundary=x; boundary=y")
    kind = kinds[0] if n % 4 else kinds[n // 4 % len(kinds)]
    return m.post("/v1/files", odd[n % len(odd)], headers={"Content-Type": f"multipart/form-data; {kind}"})


def preamble(m: Mallory, n: int) -> bytes:
    """Everything but the file: fields and part headers have no end of their own."""
    part = b'--x\r\nContent-Disposition: form-data; name="a%d"\r\n\r\n' + b"v" * 60_000 + b"\r\n"
    return m.post("/v1/files", b"".join(part % i for i in range(400)), headers=FORM)


async def cut_upload(m: Mallory, n: int) -> AsyncIterator[bytes]:
    """Ten of the hundred megabytes that were announced; then the connection ends."""
    part = b'--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    part += b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    yield m.request("POST", "/v1/files", headers=FORM | {"Content-Length": str(100 * MIB)}) + part
    for _ in range(10):
        yield m.target.canary.encode() + b"a" * MIB


async def cut_uploads(mallory: Mallory) -> None:
    async def one(number: int) -> None:
        await mallory.ask(cut_upload(mallory, number), patience=1.5)

    await mallory.steadily(one, rate=2, at_most=4)


async def big_uploads(mallory: Mallory) -> None:
    """40 MB of lines a second, into files that are deleted again."""
    line = json.dumps({"custom_id": "a", "method": "POST", "url": CHAT, "body": mallory.chat()}).encode() + b"\n"
    content = line * (20 * MIB // len(line))

    async def one(_: int) -> None:
        if file := await upload(mallory, content):
            await mallory.ask(mallory.request("DELETE", f"/v1/files/{file}"))

    await mallory.steadily(one, rate=2, at_most=2)


async def bad_lines(mallory: Mallory) -> None:
    """Batches of files whose lines are long, deep, endless or none."""
    odd = (
        b"[" * MIB, b"{}\n" * 300_000, b"\n" * 4 * MIB, b"\xff" * MIB, b'{"custom_id": "' + b"a" * 3 * MIB,
        b"0" * 5 * MIB, b'{"a":' * 200_000, b"1\n" * MIB,
        b'{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"nobody"}}\n' * 20_000,
        b'{"custom_id":"a","method":"GET"}\n' * 50_000, b"\x00\n" * MIB,
    )  # fmt: skip

    async def one(number: int) -> None:
        if file := await upload(mallory, odd[number % len(odd)]):
            await mallory.ask(
                mallory.post("/v1/batches", {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"})
            )
            await mallory.ask(mallory.request("DELETE", f"/v1/files/{file}"))

    await mallory.steadily(one, rate=3, at_most=4)


async def heavy_batch(mallory: Mallory) -> None:
    """Lines that are each as heavy to read as a body may be."""
    await run_batch(
        mallory,
        [mallory.chat(stop=[[]] * 200_000) if n % 2 else mallory.chat(messages=[[[]]] * 200_000) for n in range(24)],
    )


async def long_batch(mallory: Mallory) -> None:
    """Two thousand sound lines: bystanders go before them."""
    await run_batch(mallory, [mallory.chat(max_tokens=16) for _ in range(2000)])


async def many_batches(mallory: Mallory) -> None:
    """Of one file, again and again."""
    body, kind = multipart(
        json.dumps({"custom_id": "a", "method": "POST", "url": CHAT, "body": mallory.chat()}).encode()
    )
    made = await mallory.ask(mallory.post("/v1/files", body, headers={"Content-Type": kind}))
    file = json.loads(made.body)["id"] if made.outcome == "200" else "file-0"
    job = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h", "metadata": {"a": "b" * 500}}
    await mallory.steadily(lambda _: mallory.ask(mallory.post("/v1/batches", job)), rate=20, at_most=10)


_of = Kind("uploads", REFUSED | gets(200, "closed", "reset"))
_BATCH = REFUSED | gets(200, "lines done", "lines refused")
ATTACKS = (
    _of("bad multipart", "parts and headers without end", asking(bad_uploads, rate=5), short=True),
    _of("long preamble", "24 MB of fields before a file", asking(preamble, rate=3), REFUSED | gets("closed", "reset")),
    _of("cut uploads", "10 MB of 100", cut_uploads, REFUSED | gets("silent", "closed", "reset"), short=True),
    _of("big uploads", "40 MB a second, deleted again", big_uploads),
    _of("bad lines", "batches of what are no lines", bad_lines, leaves_files=True),
    _of("heavy batch", "lines of 400 KB of empty lists", heavy_batch, _BATCH, leaves_files=True, short=True),
    _of("long batch", "2,000 sound lines", long_batch, _BATCH, leaves_files=True),
    _of("many batches", "20 a second of one file", many_batches, leaves_files=True),
)
