"""Contents as they are kept: sealed in pieces, each content with a key of its own that is nowhere but in its row.

The construction is STREAM (Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance, 2015), as in Tink's streaming AEAD: AES-256-GCM for each piece, whose nonce is its number and whether
it is the last. So pieces that were changed, moved, left out or cut off at the end do not open, nor does one of another
content: the name is in the associated data. A key is used for one content, so no nonce comes twice.

The key is sealed with the tenant's (serving/sealing.py) and kept in the file's row. Whoever deletes the row has
destroyed the content, wherever copies of its bytes are. A new content secret seals rows anew, and no files.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from serving.batches.contents import PIECE, Chunks, Contents, ContentsUnavailable
from serving.errors import ServingError
from serving.sealing import Sealing, Unsealable

_HEAD = b"clinserve-file\0\1"  # the last byte is the version
_TAG = 16
_PLAIN = PIECE - _TAG
_log = logging.getLogger(__name__)


class ContentsDamaged(ServingError):
    """The bytes are not those that were kept, or the server has another content secret than then."""

    code = "file_damaged"
    default_message = "The file was damaged where it is kept, and cannot be read. Upload it or run its batch again."


@dataclass(frozen=True, slots=True)
class Kept:
    """Where a content is: its name, in which place, and its sealed key. size: of what was put in, in bytes."""

    name: str
    place: str
    key: bytes = field(repr=False)
    size: int


class SealedContents:
    """Raises what Contents does."""

    def __init__(self, contents: Contents, sealing: Sealing) -> None:
        self._contents = contents
        self._sealing = sealing

    async def write(self, tenant: str, chunks: Chunks) -> Kept:
        """Keep what comes under a new name. Whatever the chunks raise is raised here, and nothing is kept."""
        async with contextlib.aclosing(chunks):
            place = await self._contents.place()
            name, key = f"file-{secrets.token_hex(16)}", AESGCM.generate_key(256)
            counted = _Counted(chunks)
            await self._contents.write(name, _sealed(AESGCM(key), name, counted.chunks()))
        sealed = self._sealing.seal(key, tenant=tenant, place=f"file/{name}")
        return Kept(name, place, sealed, counted.size)

    async def read(self, tenant: str, kept: Kept) -> Chunks:
        """In pieces of at most PIECE bytes, each checked before it is given. Raises ContentsDamaged when one is not as
        it was written, FileNotFoundError when nothing is there.
        """
        await self._check_place(kept)
        try:
            key = AESGCM(self._sealing.open(kept.key, tenant=tenant, place=f"file/{kept.name}"))
        except (Unsealable, ValueError):
            _log.error("files: the key of %s does not open: damaged, or of another secret", kept.name)
            raise ContentsDamaged from None
        async with contextlib.aclosing(_opened(key, kept.name, self._contents.read(kept.name))) as pieces:
            async for piece in pieces:
                yield piece

    async def delete(self, kept: Kept) -> None:
        """When this returns the bytes are gone: were they where this process cannot reach, it raises."""
        await self._check_place(kept)
        await self._contents.delete(kept.name)

    async def place(self) -> str:
        return await self._contents.place()

    async def _check_place(self, kept: Kept) -> None:
        here = await self._contents.place()
        if here != kept.place:
            _log.error("files: %s is in place %s, this gateway has %s: is it mounted?", kept.name, kept.place, here)
            raise ContentsUnavailable


class _Counted:
    def __init__(self, chunks: Chunks) -> None:
        self._chunks = chunks
        self.size = 0

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        async for chunk in self._chunks:
            self.size += len(chunk)
            yield chunk


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


async def _sealed(key: AESGCM, name: str, chunks: Chunks) -> AsyncGenerator[bytes, None]:
    """A piece takes a tenth of a millisecond: not worth a thread."""
    about, held, number = _HEAD + name.encode(), bytearray(), 0
    yield _HEAD
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            held += chunk
            while len(held) > _PLAIN:  # what is left is the last piece, or a part of another
                yield key.encrypt(_nonce(number, last=False), bytes(held[:_PLAIN]), about)
                del held[:_PLAIN]
                number += 1
    yield key.encrypt(_nonce(number, last=True), bytes(held), about)


async def _opened(key: AESGCM, name: str, chunks: Chunks) -> AsyncGenerator[bytes, None]:
    about, held, number, begun = _HEAD + name.encode(), bytearray(), 0, False

    def opened(*, last: bool) -> bytes:
        try:
            return key.decrypt(_nonce(number, last=last), bytes(held[:PIECE]), about)
        except InvalidTag:
            _log.error("files: %s is damaged at its piece %d", name, number)
            raise ContentsDamaged from None

    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            held += chunk
            if not begun and len(held) >= len(_HEAD):
                if held[: len(_HEAD)] != _HEAD:
                    break
                del held[: len(_HEAD)]
                begun = True
            while begun and len(held) > PIECE:
                yield opened(last=False)
                del held[:PIECE]
                number += 1
    if piece := opened(last=True):
        yield piece
