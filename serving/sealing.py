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

_NONCE = 12


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
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._cipher = functools.lru_cache(maxsize=1024)(self._derived)

    def seal(self, text: bytes, *, tenant: str, place: str) -> bytes:
        nonce = os.urandom(_NONCE)  # random: fewer than 2**32 texts a tenant (NIST SP 800-38D, 8.3)
        return nonce + self._cipher(tenant).encrypt(nonce, text, place.encode())

    def open(self, sealed: bytes, *, tenant: str, place: str) -> bytes:
        try:
            return self._cipher(tenant).decrypt(sealed[:_NONCE], sealed[_NONCE:], place.encode())
        except (InvalidTag, ValueError):
            raise Unsealable(place) from None

    def _derived(self, tenant: str) -> AESGCM:
        salt = hashlib.sha256(tenant.encode()).digest()
        return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"clinserve content").derive(self._secret))
