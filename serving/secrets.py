"""The secrets of an installation: one for each purpose, from the environment, a file, a vault, or made in state_dir.

Separate secrets, because one key for two trust domains turned a cache key into an admin key elsewhere
(LiteLLM CVE-2026-114612). They never travel in settings, Serve arguments or runtime environments: Ray logs those.
The vault itself is in vault.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from serving.disk import sync_folder
from serving.secret_versions import PUBLIC, BadVersions, SecretVersion, VersionedSecret, versions_in

REQUIRED = {
    "pepper": "CLINSERVE_PEPPER",
    "engine": "CLINSERVE_ENGINE_SECRET",
    "cache_salt": "CLINSERVE_CACHE_SALT",
    "content": "CLINSERVE_CONTENT_SECRET",
    "audit": "CLINSERVE_AUDIT_SECRET",
    "signing": "CLINSERVE_AUDIT_SIGNING_KEY",
}
OPTIONAL = {"database_password": "CLINSERVE_DATABASE_PASSWORD", "redis_password": "CLINSERVE_REDIS_PASSWORD"}
_MADE = re.compile(r"[0-9a-f]{64}\s*")


class SecretsError(Exception):
    """A secret cannot be had. One line that names its place and the remedy, never a value."""


class Vault(Protocol):
    """A place outside this machine that holds all the installation's secrets."""

    def get(self, name: str) -> str | None:
        """The value of a secret such as `engine-secret`; None if there is none. Raises SecretsError."""
        ...

    def place_of(self, name: str) -> str | None:
        """Where an operator finds it. None: nowhere, so that secrets are made in state_dir."""
        ...


class NoVault:
    """No vault."""

    def get(self, name: str) -> str | None:
        return None

    def place_of(self, name: str) -> str | None:
        return None


@dataclass(frozen=True, slots=True)
class Secrets:
    """One for each purpose, each in versions (secret_versions.py) that running processes follow (secret_follower.py).

    pepper: keyed hash of API keys, and seals of rows that say who may what. engine: opens the engine routes.
    cache_salt: separates tenants' KV caches.
    content: seals what users wrote and models answered, in the database.
    audit: keyed digests in the audit log. signing: seed (32 bytes) of the Ed25519 key under its checkpoints; written
    as 64 hexadecimal digits. The passwords are empty unless given.
    """

    pepper: VersionedSecret
    engine: VersionedSecret
    cache_salt: VersionedSecret
    content: VersionedSecret
    audit: VersionedSecret
    signing: VersionedSecret
    database_password: str = field(default="", repr=False)
    redis_password: str = field(default="", repr=False)

    @classmethod
    def load(cls, state_dir: Path, environ: Mapping[str, str] = os.environ, vault: Vault = NoVault()) -> Secrets:  # noqa: B008  # it holds nothing
        """All of them, for a gateway. Raises SecretsError."""
        source = SecretSource(state_dir, environ, vault)
        return cls(
            pepper=source.versions("pepper"),
            engine=source.versions("engine"),
            cache_salt=source.versions("cache_salt"),
            content=source.versions("content"),
            audit=source.versions("audit"),
            signing=source.versions("signing"),
            database_password=source.optional("database_password"),
            redis_password=source.optional("redis_password"),
        )

    def salt_of(self, tenant: str) -> str:
        """The tenant's KV-cache namespace: 64 hex digits that say nothing about the tenant's name."""
        return hmac.new(self.cache_salt.writing.value, tenant.encode(), hashlib.sha256).hexdigest()

    def versioned(self) -> dict[str, VersionedSecret]:
        """By name, as REQUIRED has them."""
        return {name: getattr(self, name) for name in REQUIRED}


@dataclass(frozen=True, slots=True)
class AdministrationSecrets:
    """What administration needs, as in the chart's prepare job: it opens no engine and no content."""

    pepper: VersionedSecret
    audit: VersionedSecret
    signing: VersionedSecret
    database_password: str = field(default="", repr=False)

    @classmethod
    def load(cls, source: SecretSource) -> AdministrationSecrets:
        """Raises SecretsError."""
        return cls(
            pepper=source.versions("pepper"),
            audit=source.versions("audit"),
            signing=source.versions("signing"),
            database_password=source.optional("database_password"),
        )


@dataclass(frozen=True, slots=True)
class SecretSource:
    """Where this process's secrets come from. Each is looked for only when it is asked for, so that a process whose
    machine was given one alone, such as an engine, neither misses the others nor makes any.
    """

    state_dir: Path
    environ: Mapping[str, str] = field(repr=False)
    vault: Vault

    def required(self, name: str) -> str:
        """From its variable, else from the file that VARIABLE_FILE names, else from the vault.

        Without a vault it is made once in `state_dir/secrets`. With one it must be there: two replicas would make two.
        Raises SecretsError.
        """
        variable = REQUIRED[name]
        given = _given(variable, self.environ, self.vault)
        return given or _made(variable, self.state_dir / "secrets" / name, self.vault)

    def versions(self, name: str) -> VersionedSecret:
        """The same, read as versions. Raises SecretsError."""
        try:
            secret = VersionedSecret.read(self.required(name))
        except BadVersions as error:
            raise SecretsError(f"{REQUIRED[name]}: {error}") from None
        if name == "signing":
            for version in secret.versions:
                _check_signing(version)
        return secret

    def file_of(self, name: str) -> Path | None:
        """The file that it is in; None where it is in a variable or a vault."""
        variable = REQUIRED[name]
        if self.environ.get(variable):
            return None
        if self.environ.get(f"{variable}_FILE"):
            return Path(self.environ[f"{variable}_FILE"])
        return self.state_dir / "secrets" / name if self.vault.place_of(vault_name(variable)) is None else None

    def is_here(self, name: str) -> bool:
        """Whether this machine was given it, or made it before."""
        file = self.file_of(name)
        return file.exists() if file else bool(_given(REQUIRED[name], self.environ, self.vault))

    def place_of(self, name: str) -> str:
        """For people: where it is."""
        file, variable = self.file_of(name), REQUIRED[name]
        return str(file) if file else self.vault.place_of(vault_name(variable)) or f"variable {variable}"

    def optional(self, name: str) -> str:
        """Likewise; empty where there is none."""
        return _given(OPTIONAL[name], self.environ, self.vault)


def vault_name(variable: str) -> str:
    """CLINSERVE_ENGINE_SECRET is `engine-secret` in a vault: Key Vault's names have no underscores."""
    return variable.removeprefix("CLINSERVE_").lower().replace("_", "-")


def _given(variable: str, environ: Mapping[str, str], vault: Vault) -> str:
    """What somebody set; empty if nobody did. A file that was named and cannot be read does not count as unset."""
    if environ.get(variable):
        return environ[variable]
    if environ.get(f"{variable}_FILE"):
        return _read(variable, Path(environ[f"{variable}_FILE"]))
    return _line(vault.get(vault_name(variable)) or "")


def _read(variable: str, path: Path) -> str:
    try:
        text = _line(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise SecretsError(f"{variable}_FILE: {path}: {reason}") from None
    if not text:
        raise SecretsError(f"{variable}_FILE: {path} is empty")
    return text


def _line(text: str) -> str:
    """Without the line's end that editors and `az keyvault secret set --file` leave."""
    return text.removesuffix("\n").removesuffix("\r")


def _made(variable: str, path: Path, vault: Vault) -> str:
    place = vault.place_of(vault_name(variable))
    if place is not None:
        raise SecretsError(f"{place} does not exist or is empty: create it, or set {variable} or {variable}_FILE")
    if not path.exists():  # also where state_dir is read-only, as a mounted one is
        _make(variable, path)
    try:
        text = path.read_text(encoding="ascii")
    except OSError as error:
        raise SecretsError(f"{path} cannot be read: {error.strerror}; set {variable} or {variable}_FILE") from None
    except UnicodeDecodeError:
        text = ""
    if not _is_whole(text):  # an empty one would be a secret that everybody knows
        raise SecretsError(f"{path} is damaged: restore it from a backup (docs/runbook.md), or set {variable}")
    return text.strip()


def _is_whole(text: str) -> bool:
    """What was made here, or rotated since: each version is as long as it was made."""
    try:
        return all(_MADE.fullmatch(version.text.removeprefix(PUBLIC)) for version in versions_in(text))
    except BadVersions:
        return False


def _make(variable: str, path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Linked into place whole: another process that starts now reads all of it or makes none.
        # A random name: on a shared volume, two containers may have the same process id.
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32))
                file.flush()
                os.fsync(file.fileno())  # a name without its bytes, after a power failure, would be a damaged secret
            with contextlib.suppress(FileExistsError):
                os.link(fresh, path)
            sync_folder(path.parent)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise SecretsError(f"{path} cannot be made: {error.strerror}; set {variable} or {variable}_FILE") from None


def _check_signing(version: SecretVersion) -> None:
    """64 hexadecimal digits: of the key, or, behind `public:`, of what verifies it when it is gone.

    Raises SecretsError.
    """
    try:
        digits = len(bytes.fromhex(version.text.removeprefix(PUBLIC)))
    except ValueError:
        digits = 0
    if digits != 32:
        raise SecretsError("the audit signing key (CLINSERVE_AUDIT_SIGNING_KEY) is not 64 hexadecimal digits")
