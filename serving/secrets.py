"""The secrets of an installation: one for each purpose, from the environment or generated once into state_dir.

Separate secrets, because one key for two trust domains turned a cache key into an admin key elsewhere
(LiteLLM CVE-2026-114612). They never travel in settings, Serve arguments or runtime environments: Ray logs those.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_FILES = {"pepper": "CLINSERVE_PEPPER", "engine": "CLINSERVE_ENGINE_SECRET", "cache_salt": "CLINSERVE_CACHE_SALT"}


@dataclass(frozen=True, slots=True)
class Secrets:
    """pepper: keyed hash of API keys. engine: opens the engine routes. cache_salt: separates tenants' KV caches."""

    pepper: bytes = field(repr=False)
    engine: str = field(repr=False)
    cache_salt: bytes = field(repr=False)

    @classmethod
    def load(cls, state_dir: Path, environ: Mapping[str, str] = os.environ) -> Secrets:
        """Each from its environment variable, else from its file under `state_dir/secrets`, made when missing."""
        values = {
            name: environ.get(variable) or _kept(state_dir / "secrets" / name) for name, variable in _FILES.items()
        }
        return cls(values["pepper"].encode(), values["engine"], values["cache_salt"].encode())

    def salt_of(self, tenant: str) -> str:
        """The tenant's KV-cache namespace: 64 hex digits that say nothing about the tenant's name."""
        return hmac.new(self.cache_salt, tenant.encode(), hashlib.sha256).hexdigest()


def _kept(path: Path) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        # Linked into place whole: another process that starts now reads all of it or makes none.
        # A random name: on a shared volume, two containers may have the same process id.
        fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    except PermissionError:
        pass  # a read-only state_dir is fine as long as the file is there
    return path.read_text()
