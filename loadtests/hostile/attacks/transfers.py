"""Bodies that come in an odd way: compressed, in odd chunks, too slowly, without an end."""

import asyncio
import gzip
from collections.abc import AsyncIterator

from loadtests.hostile.attack import Kind, asking, gets
from loadtests.hostile.attacks.bodies import MIB, REFUSED, with_content
from loadtests.hostile.attacks.schemas import CHAT
from loadtests.hostile.wire import Mallory


def compressed(m: Mallory, n: int) -> bytes:
    """A kilobyte that becomes megabytes, for who would decompress it."""
    data = gzip.compress(with_content(m, b'"' + b"a" * 64 * MIB + b'"')) if n < 1 else gzip.compress(b"{}" * 100)
    return m.post(CHAT, data, headers={"Content-Encoding": ("gzip", "deflate", "br", "gzip, gzip")[n % 4]})


async def bytewise(m: Mallory, n: int) -> AsyncIterator[bytes]:
    """A body in chunks of one byte each."""
    yield m.request("POST", CHAT, headers={"Transfer-Encoding": "chunked", "Content-Type": "application/json"})
    data = with_content(m, b'"' + b"a" * 60_000 + b'"')
    for start in range(0, len(data), 2000):
        yield b"".join(b"1\r\n" + data[i : i + 1] + b"\r\n" for i in range(start, min(start + 2000, len(data))))
    yield b"0\r\n\r\n"


def odd_chunks(m: Mallory, n: int) -> bytes:
    head = m.request("POST", CHAT, headers={"Transfer-Encoding": "chunked", "Content-Type": "application/json"})
    odd = (
        b"-1\r\n", b"ffffffffffffffff\r\n", b"5;" + b"x=y;" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n", b"5\nhello\n0\n\n", b"5\r\nhello0\r\n\r\n",
        b"0\r\n" + b"X: y\r\n" * 5000 + b"\r\n", b"g\r\n", b"\r\n\r\n",
        b"00000000000000000000005\r\nhello\r\n0\r\n\r\n",
    )  # fmt: skip
    return head + odd[n % len(odd)]


def odd_lengths(m: Mallory, n: int) -> bytes:
    odd: tuple[dict[str, str], ...] = (
        {"Content-Length": "1099511627776"}, {"Content-Length": "-1"}, {"Content-Length": "5, 5"},
        {"Content-Length": "0x10"}, {"Content-Length": "5", "Transfer-Encoding": "chunked"},
        {"Content-Length": "99999999999999999999999999"}, {"Transfer-Encoding": "chunked, identity"},
        {"Transfer-Encoding": "gzip, chunked"}, {"Content-Length": "+5"}, {"Transfer-Encoding": "\x0bchunked"},
        {"Content-Length": "1\r\nContent-Length: 2"},
    )  # fmt: skip
    return m.request("POST", CHAT, headers={"Content-Type": "application/json"} | odd[n % len(odd)]) + b"hello"


async def endless(m: Mallory, n: int) -> AsyncIterator[bytes]:
    """A body that has no end, as fast as it is taken, up to 40 MB."""
    head = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
    yield m.request("POST", CHAT, headers=head) + b"7\r\n" + b'{"user"' + b"\r\n"
    for _ in range(640):
        yield b"10000\r\n" + b" " * 2**16 + b"\r\n"


async def slow_body(m: Mallory, n: int) -> AsyncIterator[bytes]:
    """A byte a second of a body that is announced as longer."""
    yield m.request("POST", CHAT, headers={"Content-Length": "100000", "Content-Type": "application/json"})
    while True:
        yield b" "
        await asyncio.sleep(1.0)


_of = Kind("transfers", REFUSED | gets(431, "closed", "reset"))
ATTACKS = (
    _of("compressed body", "64 MiB in 64 KiB of gzip", asking(compressed)),
    _of("bytewise body", "60,000 chunks of a byte", asking(bytewise, rate=2), REFUSED | gets(200)),
    _of("odd chunks", "sizes that are none", asking(odd_chunks, rate=8, patience=8), _of.gets | gets("silent")),
    _of("odd lengths", "none, or two", asking(odd_lengths, rate=8, patience=8), _of.gets | gets(501)),
    _of("endless body", "40 MB of spaces", asking(endless, rate=2, at_most=3)),
    _of(
        "slow bodies",
        "200 of a byte a second",
        asking(slow_body, rate=40, at_most=200, patience=10),
        _of.gets | gets("silent"),
        short=True,
    ),
)
