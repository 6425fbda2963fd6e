"""The text of API keys: how it is made, told from junk, and kept from being shown.

    csk_ab12cd34_<32 random characters><6 characters of CRC32>
    └── prefix ─┘     the rest is the secret

The prefix may be shown and logged. The whole text exists in its owner's hands only: we keep an HMAC of it.
"""

from __future__ import annotations

import re
import secrets
import string
import zlib

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
KEY_TEXT = re.compile(r"(?P<body>csk_(?P<id>[0-9A-Za-z]{8})_[0-9A-Za-z]{32})(?P<checksum>[0-9A-Za-z]{6})")
KEY_NAME = re.compile(r"(csk_)?[0-9A-Za-z]{8}")
PREFIX_LENGTH = len("csk_ab12cd34")


class Secret:
    """A key text that does not show when printed, formatted or logged."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"


def new_key_text() -> Secret:
    def random(length: int) -> str:
        return "".join(secrets.choice(BASE62) for _ in range(length))

    body = f"csk_{random(8)}_{random(32)}"
    return Secret(body + checksum(body))


def is_key_text(text: str) -> bool:
    """Whether this can be a key at all: shape and checksum. Any typo of one character fails."""
    match = KEY_TEXT.fullmatch(text)
    return match is not None and match["checksum"] == checksum(match["body"])


def public_name(text: str) -> str:
    """The id or prefix in what an operator typed: itself, or the prefix of a whole key. Empty for anything else."""
    if is_key_text(text):
        return text[:PREFIX_LENGTH]
    return text if KEY_NAME.fullmatch(text) else ""


def prefix_of(text: str) -> str:
    """The prefix of a whole key, which may be shown. Empty for anything else: it may be a secret of another kind."""
    return text[:PREFIX_LENGTH] if is_key_text(text) else ""


def is_key_name(text: str) -> bool:
    return re.fullmatch(r"[0-9A-Za-z]{8}", text) is not None


def checksum(body: str) -> str:
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits = BASE62[digit] + digits
    return digits
