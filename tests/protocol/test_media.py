"""How large a picture, a sound or a video is, by its header: what is larger than the bounds, or unknown, is refused."""

from __future__ import annotations

import base64
import contextlib
import io
import struct
import wave
import zlib
from typing import Any

import pytest
from PIL import Image

from serving.errors import ForbiddenField, InvalidRequest
from serving.protocol import bounds
from serving.protocol.media import check_media


def url(data: bytes, kind: str = "image") -> str:
    return f"data:{kind}/x;base64,{base64.b64encode(data).decode()}"


def message(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def picture(data: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url(data)}}


def written(form: str, width: int = 30, height: int = 20, frames: int = 1) -> bytes:
    out = io.BytesIO()
    images = [Image.new("RGB", (width, height), (3 * number % 256, 7 * number % 256, 0)) for number in range(frames)]
    more = {"save_all": True, "append_images": images[1:]} if frames > 1 else {}
    images[0].save(out, form, **more)
    return out.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A decompression bomb begins so."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + head
        + struct.pack(">II", zlib.crc32(head), 100)
        + b"IDAT"
        + b"\0" * 104
    )


def sound(seconds: float, rate: int = 8000) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(rate)
        file.writeframes(b"\0" * int(seconds * rate))
    return out.getvalue()


@pytest.mark.parametrize(
    ("form", "frames"), [("PNG", 1), ("JPEG", 1), ("GIF", 1), ("WEBP", 1), ("GIF", 5), ("PNG", 5), ("WEBP", 5)]
)
def test_pictures_of_the_usual_formats_pass(form: str, frames: int) -> None:
    check_media(message(picture(written(form, frames=frames))))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (png_header(60_000, 60_000), "width and height"),
        (png_header(16_000, 16_000), "pixels"),
        (png_header(0, 5), "width and height"),
        (written("JPEG", 16_384, 8_192), "pixels"),
        (written("GIF", frames=bounds.FRAMES + 1), "frames"),
        (written("PNG", frames=bounds.FRAMES + 1), "frames"),
        (written("WEBP", frames=bounds.FRAMES + 1), "frames"),
        (written("GIF", 2000, 1000, frames=40), "pixels"),
        (b"", "must be PNG"),
        (b"\0", "must be PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "must be PNG"),
        (b"II*\0" + b"\0" * 50, "must be PNG"),
        (written("PNG")[:18], "must be PNG"),
        (written("JPEG")[:6], "must be PNG"),
        (written("GIF")[:8], "must be PNG"),
        (written("WEBP")[:14], "must be PNG"),
    ],
)
def test_what_is_too_large_or_unknown_is_refused_by_its_place(data: bytes, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as refused:
        check_media(message({"type": "text", "text": "see"}, picture(data)))
    assert refused.value.param == "messages[0].content[1]"


def test_every_prefix_of_a_picture_is_judged_and_none_breaks_the_judge() -> None:
    for form, frames in (("PNG", 3), ("JPEG", 1), ("GIF", 3), ("WEBP", 3)):
        data = written(form, frames=frames)
        for end in range(0, len(data), 3):
            with contextlib.suppress(InvalidRequest):
                check_media(message(picture(data[:end])))


def test_sounds_and_videos_are_bounded_by_what_their_headers_say() -> None:
    def audio(data: bytes) -> dict[str, Any]:
        return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": "wav"}}

    check_media(message(audio(sound(2)), {"type": "audio_url", "audio_url": url(sound(1), "audio")}))
    check_media(message(audio(b"\xff\xfb\x90\x00" + b"\0" * 9000)))
    with pytest.raises(InvalidRequest, match="longer than 600 seconds"):
        check_media(message(audio(sound(601, rate=1000))))
    movie = struct.pack(">I", 16) + b"ftypisom" + b"\0" * 4 + b"\0\0\0\x6cmoov\0\0\0\x64mvhd" + b"\0" * 12
    film = {"type": "video_url", "video_url": {"url": url(movie + struct.pack(">II", 1000, 5000), "video")}}
    check_media(message(film))
    film["video_url"] = {"url": url(movie + struct.pack(">II", 1000, 5_000_000), "video")}  # type: ignore[assignment]
    for part in (film, audio(b"nothing"), {"type": "video_url", "video_url": url(b"RIFF....AVI ", "video")}):
        with pytest.raises(InvalidRequest):
            check_media(message(part))


def test_media_are_counted_and_inline() -> None:
    one = picture(written("PNG"))
    check_media(message(*[one] * bounds.MEDIA))
    with pytest.raises(InvalidRequest, match="more than 64 media"):
        check_media(message(*[one] * 40) * 2)
    for data in ("data:image/png,AAAA", "data:image/png;base64", "data:image/png;base64,A*==", "data:;base64,AAA"):
        with pytest.raises(InvalidRequest):
            check_media(message({"type": "image_url", "image_url": data}))
    with pytest.raises(ForbiddenField):
        check_media(message({"type": "input_audio", "input_audio": {"url": "https://elsewhere"}}))
