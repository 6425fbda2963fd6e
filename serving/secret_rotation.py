"""Rotating a secret: a version more, a version less, and the file in which they are. Never a value in an error."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from serving.secret_versions import MOST_VERSIONS, PUBLIC, SecretVersion, VersionedSecret, text_of
from serving.secrets import SecretsError

SETTLED = timedelta(minutes=10)
"""How long a version has written before the one before it can be retired: clocks differ, and requests run."""


def rotated(name: str, secret: VersionedSecret, now: datetime, begins: datetime) -> VersionedSecret:
    """With a new version, that writes from `begins`. All others stay. Raises SecretsError."""
    newest = secret.versions[0]
    if newest.writes_from is not None and newest.writes_from > now:
        raise SecretsError(f"{name}: version {newest.number} waits until {newest.writes_from:%F %T} UTC")
    if sum(not version.text.startswith(PUBLIC) for version in secret.versions) >= MOST_VERSIONS:
        raise SecretsError(f"{name}: it has {MOST_VERSIONS} versions; retire an old one first (clinserve secrets list)")
    new = SecretVersion(newest.number + 1, secrets.token_hex(32), begins.replace(microsecond=0))
    return VersionedSecret([*secret.versions, new])


def retired(name: str, secret: VersionedSecret, number: int, now: datetime) -> VersionedSecret:
    """Without a version, which another has followed; of a signing key, its public key stays. Raises SecretsError."""
    version, writing = secret.version(number), secret.writing
    if version is None:
        raise SecretsError(f"{name}: there is no version {number}")
    if number >= writing.number:
        raise SecretsError(f"{name}: version {number} is in use, or will be: rotate first")
    if writing.writes_from is None or now - writing.writes_from < SETTLED:
        raise SecretsError(f"{name}: version {writing.number} has written for less than {SETTLED}: wait")
    others = [one for one in secret.versions if one.number != number]
    if name == "signing":
        if version.text.startswith(PUBLIC):
            raise SecretsError(f"{name}: of version {number} only the public key is left, and stays")
        key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(version.text)).public_key()
        others.append(SecretVersion(number, PUBLIC + key.public_bytes_raw().hex(), version.writes_from))
    return VersionedSecret(others)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else rotates what is in this folder meanwhile. Raises SecretsError where nothing can be written."""
    try:
        descriptor = os.open(path.parent / ".rotation", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SecretsError(f"{path} cannot be replaced here: {error.strerror}; name an --output") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def replace(path: Path, secret: VersionedSecret) -> None:
    """Whole or not at all, readable for its owner only. Raises SecretsError."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_new(fresh, secret)
        fresh.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise SecretsError(f"{path} cannot be replaced: {error.strerror}; name an --output") from None


def write_new(path: Path, secret: VersionedSecret) -> None:
    """A file that was not there before."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text_of(secret.versions))
        file.flush()
        os.fsync(file.fileno())
