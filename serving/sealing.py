"""Sealing: what users wrote and models answered, encrypted before it goes into the database."""

from __future__ import annotations

import functools
import hashlib
import os
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from serving.secret_versions import VersionedSecret

_NONCE = 12
HEAD = b"\xc5cs"
"""Before what is of a version after the first: then two bytes say which."""
_VERSION = 2


class Unsealable(Exception):
    """Sealed with another secret, for another place, or damaged."""


class Sealing(Protocol):
    def seal(self, text: bytes, *, tenant: str, place: str) -> bytes: ...

    def open(self, sealed: bytes, *, tenant: str, place: str) -> bytes:
        """Raises Unsealable."""
        ...


class Sealer:
    """AES-256-GCM with a key for each tenant. place: what it is and where it belongs, such as a batch and its line; a
    row that somebody moved to another place does not open.

    Sealed with the version of the secret that writes, which the sealed text names, but for the first: as before there
    were versions, so that an older release reads it while it is being replaced. Opened with any version that is live.
    """

    def __init__(self, secret: VersionedSecret | bytes) -> None:
        self._secret = VersionedSecret.of(secret)
        self._cipher = functools.lru_cache(maxsize=1024)(_derived)

    def seal(self, text: bytes, *, tenant: str, place: str) -> bytes:
        nonce = os.urandom(_NONCE)  # random: fewer than 2**32 texts a tenant (NIST SP 800-38D, 8.3)
        version = self._secret.writing
        head = head_of(version.number)
        return head + nonce + self._cipher(version.value, tenant).encrypt(nonce, text, place.encode() + head)

    def open(self, sealed: bytes, *, tenant: str, place: str) -> bytes:
        start, about = len(HEAD) + _VERSION, place.encode()
        if sealed[: len(HEAD)] == HEAD:
            head = sealed[:start]
            opened = self._opened(int.from_bytes(head[-_VERSION:], "big"), sealed[start:], tenant, about + head)
            if opened is not None:
                return opened
        # Of before there were versions, whose random beginning may look like a head.
        opened = self._opened(1, sealed, tenant, about)
        if opened is None:
            raise Unsealable(place)
        return opened

    def _opened(self, number: int, sealed: bytes, tenant: str, about: bytes) -> bytes | None:
        version = self._secret.version(number)
        if version is None:
            return None
        try:
            return self._cipher(version.value, tenant).decrypt(sealed[:_NONCE], sealed[_NONCE:], about)
        except (InvalidTag, ValueError):
            return None


def head_of(version: int) -> bytes:
    return b"" if version == 1 else HEAD + version.to_bytes(_VERSION, "big")


def _derived(secret: bytes, tenant: str) -> AESGCM:
    salt = hashlib.sha256(tenant.encode()).digest()
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"clinserve content").derive(secret))
