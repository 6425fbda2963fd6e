"""How large an image, a sound or a video is that comes inline, as its own header says. Nothing is decoded.

A few kilobytes of PNG can hold 10,000 megapixels, which the engine would unpack. What is of no format known here is
refused: nobody can say how large it is.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from serving.errors import ForbiddenField, InvalidRequest
from serving.protocol import bounds

_CHUNKS = 256
"""Of a PNG, before its pixels."""
_PIECE = 2**20
"""Characters of base64, a multiple of four."""
IMAGES = "PNG, JPEG, GIF or WebP"
SOUNDS = "WAV, MP3, FLAC, OGG, MP4 or WebM"
VIDEOS = "MP4 or WebM"


_KBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_KBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
"""MP3's rates by the number in a frame's header, MPEG 1 and 2."""


class Picture(NamedTuple):
    """frames: of one that moves."""

    width: int
    height: int
    frames: int = 1


def check_media(messages: list[dict[str, Any]]) -> None:
    """Raises InvalidRequest, ForbiddenField; they name the part's place."""
    count = 0
    for position, message in enumerate(messages):
        content = message.get("content")
        for index, part in enumerate(content if isinstance(content, list) else ()):
            if not isinstance(part, dict) or part["type"] in ("text", "refusal"):
                continue
            count += 1
            where = f"messages[{position}].content[{index}]"
            if count > bounds.MEDIA:
                raise InvalidRequest(f"'messages' has more than {bounds.MEDIA} media.", param=where)
            _check(part, where)


def _check(part: dict[str, Any], where: str) -> None:
    kind = part["type"]
    given = part.get(kind)
    if kind == "input_audio":
        text = given.get("data") if isinstance(given, dict) else None
    else:
        url = given.get("url") if isinstance(given, dict) else given
        head, comma, text = url.partition(",") if isinstance(url, str) else ("", "", None)
        if not comma or not head.endswith(";base64"):
            raise InvalidRequest(f"{where}: a data: URL of media must be in base64.", param=where)
    data = _decoded(text, where)
    if kind == "image_url":
        return _check_picture(_picture_in(data), where)
    known = _seconds_of_video(data)
    if known is None and kind != "video_url":
        known = _seconds_of_sound(data)
    if known is None:
        formats = VIDEOS if kind == "video_url" else SOUNDS
        raise InvalidRequest(f"{where}: it must be {formats}.", param=where)
    if known > bounds.SECONDS:
        raise InvalidRequest(f"{where}: it is longer than {bounds.SECONDS} seconds.", param=where)


def _decoded(text: object, where: str) -> bytes:
    if not isinstance(text, str):
        raise ForbiddenField(f"{where}: media must be sent inline, in base64; nothing is fetched.", param=where)
    if len(text) * 3 // 4 > bounds.MEDIA_BYTES + 3:
        raise InvalidRequest(f"{where}: it is larger than {bounds.MEDIA_BYTES} bytes.", param=where)
    try:
        # In pieces: one call would keep all others waiting.
        return b"".join(base64.b64decode(text[at : at + _PIECE], validate=True) for at in range(0, len(text), _PIECE))
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{where}: it is not valid base64.", param=where) from None


def _check_picture(picture: Picture | None, where: str) -> None:
    if picture is None:
        raise InvalidRequest(f"{where}: it must be {IMAGES}.", param=where)
    if not 0 < picture.width <= bounds.SIDE or not 0 < picture.height <= bounds.SIDE:
        raise InvalidRequest(f"{where}: width and height must be 1 to {bounds.SIDE} pixels.", param=where)
    if picture.frames > bounds.FRAMES:
        raise InvalidRequest(f"{where}: it has more than {bounds.FRAMES} frames.", param=where)
    if picture.width * picture.height * picture.frames > bounds.PIXELS:
        raise InvalidRequest(f"{where}: it has more than {bounds.PIXELS} pixels.", param=where)


def _picture_in(data: bytes) -> Picture | None:
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data)
        if data.startswith(b"\xff\xd8"):
            return _jpeg(data)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return _gif(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
    except (struct.error, IndexError):
        pass  # it ends in its header
    return None


def _png(data: bytes) -> Picture | None:
    if data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", data[16:24])
    # APNG says how many frames it has in a chunk before the first of them.
    at = 8
    for _ in range(_CHUNKS):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        if kind == b"IDAT":
            return Picture(width, height)
        if kind == b"acTL":
            return Picture(width, height, struct.unpack(">I", data[at + 8 : at + 12])[0])
        at += 12 + size
    return None


def _jpeg(data: bytes) -> Picture | None:
    at = 2
    while at < len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # padding
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return Picture(width, height)
        elif marker in (0x01, *range(0xD0, 0xD9)):
            at += 2
        else:
            at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return None


def _gif(data: bytes) -> Picture:
    width, height = struct.unpack("<HH", data[6:10])
    frames = 0
    for left, top, wide, high in _gif_frames(data):
        frames += 1
        width, height = max(width, left + wide), max(height, top + high)
        if frames > bounds.FRAMES:
            break
    return Picture(width, height, max(1, frames))


def _gif_frames(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Left, top, width and height of each, until the data or their order end."""
    at = 13 + _colours(data[10])
    while at < len(data) and data[at] in (0x21, 0x2C):
        if data[at] == 0x2C:
            yield struct.unpack("<HHHH", data[at + 1 : at + 9])
            at += 11 + _colours(data[at + 9])
        else:
            at += 2
        while data[at]:  # blocks, each with its length before it
            at += 1 + data[at]
        at += 1


def _colours(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(data: bytes) -> Picture | None:
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return Picture(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        (bits,) = struct.unpack("<I", data[21:25])
        return Picture((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        return Picture(width, height, max(1, data.count(b"ANMF")))
    return None


def _seconds_of_sound(data: bytes) -> float | None:
    """None: of no format known here. 0: it does not say, so that its bytes are its only bound."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        at = data.find(b"fmt ", 12, 2**16)
        rate = int.from_bytes(data[at + 16 : at + 20], "little") if at > 0 else 0
        at = data.find(b"data", 12, 2**16)
        said = int.from_bytes(data[at + 4 : at + 8], "little") if at > 0 else 0
        size = len(data) if said == 2**32 - 1 else max(len(data), said)  # one that was written as it came does not say
        return size / rate if rate else None
    if data[:4] == b"fLaC":
        packed = int.from_bytes(data[18:26], "big")
        rate, samples = packed >> 44, packed & (2**36 - 1)
        return samples / rate if rate else None
    if data[:4] == b"OggS":
        # The position in the last page counts samples, of Opus 48,000 a second.
        at = data.rfind(b"OggS")
        samples = int.from_bytes(data[at + 6 : at + 14], "little")
        return samples / 48_000 if samples < 2**64 - 1 else 0.0
    return _seconds_of_mp3(data)


def _seconds_of_mp3(data: bytes) -> float | None:
    """By the bits a second of its first frame."""
    at = 0
    if data[:3] == b"ID3" and len(data) > 10:
        at = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    if len(data) < at + 4 or data[at] != 0xFF or data[at + 1] & 0xE6 != 0xE2:
        return None
    rates = _KBITS_1 if data[at + 1] & 0x18 == 0x18 else _KBITS_2
    kbits = rates[data[at + 2] >> 4]
    return len(data) / (125 * kbits) if kbits else None


def _seconds_of_video(data: bytes) -> float | None:
    if data[4:8] == b"ftyp":
        at = data.find(b"mvhd")
        if at < 0:
            return None
        wide = data[at + 4] == 1
        scale, length = (
            (data[at + 24 : at + 28], data[at + 28 : at + 36])
            if wide
            else (data[at + 16 : at + 20], data[at + 20 : at + 24])
        )
        ticks = int.from_bytes(scale, "big")
        return int.from_bytes(length, "big") / ticks if ticks else None
    return 0.0 if data[:4] == b"\x1a\x45\xdf\xa3" else None  # WebM: its length is optional
