"""Where API keys are kept, and what is kept of each. In memory here; in a database, sql/keys.py."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, NewType, Protocol

from serving.errors import InvalidRequest, ServingError
from serving.tenants.callers import Network, Role
from serving.tenants.paging import Page, PageRequest, bad_cursor

KeyDigest = NewType("KeyDigest", str)
"""hex HMAC-SHA256(pepper, key text)"""

KeyStatus = Literal["active", "expired", "revoked", "refused"]
"""refused: the row was changed by somebody else than this product."""
LIVE_KEYS = 2
"""How many live keys an owner may have: a second one so that keys are replaced without a gap (Azure's key1, key2)."""


class UnknownKey(ServingError):
    """An operator named a key that does not exist. Does not quote the name: it may be a whole key, pasted."""

    status, kind, code = 404, "invalid_request_error", "key_not_found"
    default_message = "No key has this id or prefix."


class TooManyKeys(InvalidRequest):
    """The owner of a new key has two live ones."""

    code = "too_many_keys"


class KeyEnded(InvalidRequest):
    """A key that expired or was revoked cannot be rotated."""

    code = "key_ended"
    default_message = "This key has ended, so it cannot be rotated. Create a new one."


class DuplicateKey(Exception):
    """The id, prefix or digest of a new key is taken."""

    def __init__(self) -> None:
        super().__init__("Another key has the same prefix. Create a new one.")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What we keep of a key. Its owner is an application or person: a name within a tenant.

    deployments: what it may call, None for all. networks: where from, None for anywhere. Times are UTC and aware.
    pepper: the version under which its digest is. genuine: whether the row is as this product wrote it (row_seal.py).
    """

    id: str
    tenant: str
    name: str
    prefix: str
    digest: KeyDigest
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    roles: frozenset[Role] = frozenset({"inference"})
    deployments: frozenset[str] | None = None
    networks: tuple[Network, ...] | None = None
    pepper: int = 1
    genuine: bool = True

    def status(self, now: datetime) -> KeyStatus:
        if not self.genuine:
            return "refused"
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"

    def ending(self, at: datetime) -> ApiKey:
        """This key, expiring then if it does not earlier."""
        return replace(self, expires_at=at if self.expires_at is None else min(at, self.expires_at))

    @property
    def place(self) -> tuple[datetime, str]:
        """Where it stands in a list: oldest first."""
        return self.created_at, self.id


KeyList = list[ApiKey]  # inside a class that has a method `list`, the annotation list[...] names the method


class KeyStore(Protocol):
    """Where keys are kept. Called from several threads and processes at once.

    Every method raises `StoreUnavailable` when the store cannot answer.
    """

    def add(self, key: ApiKey) -> None:
        """Keep a new key, or raise and keep nothing: `DuplicateKey`; `TooManyKeys` if its owner has two that are live
        when it is created, also when several are added at once.
        """

    def rotate(self, old: str, new: ApiKey, ends_at: datetime) -> None:
        """Let the key with this id expire at ends_at, if it does not earlier, and add a new one of the same owner.

        Both or none. Raises as `add`, the old one counting if it is live still after `new` is created; `UnknownKey`;
        `KeyEnded` if the old one is not live.
        """

    def find(self, digest: KeyDigest) -> ApiKey | None:
        """The key with this digest, also when it is revoked or expired."""

    def get(self, id_or_prefix: str) -> ApiKey:
        """The key with this id or prefix, also when it is revoked or expired, or raise `UnknownKey`."""

    def revoke(self, id_or_prefix: str, at: datetime) -> ApiKey:
        """Mark the key as revoked and return it, or raise `UnknownKey`. A revoked key keeps its first time."""

    def rehash(self, key: ApiKey, digest: KeyDigest, pepper: int) -> None:
        """Keep this digest, under this version of the pepper, instead of the key's, unless it was changed meanwhile."""

    def list(self, tenant: str | None) -> KeyList:
        """The keys of one tenant, or of all; oldest first."""

    def page(self, tenant: str | None, page: PageRequest) -> Page[ApiKey]:
        """As `list`, a page of it; the cursor is the id of a key in this list. Raises `InvalidRequest` for another."""


class MemoryKeys:
    """Keys that end with the process."""

    def __init__(self) -> None:
        self._keys: dict[KeyDigest, ApiKey] = {}
        self._lock = threading.Lock()

    def add(self, key: ApiKey) -> None:
        with self._lock:
            self._check_room(key, list(self._keys.values()))
            self._keys[key.digest] = key

    def rotate(self, old: str, new: ApiKey, ends_at: datetime) -> None:
        with self._lock:
            key = self.get(old)
            if key.status(new.created_at) != "active":
                raise KeyEnded
            ending = key.ending(ends_at)
            self._check_room(new, [ending, *(k for k in self._keys.values() if k.id != key.id)])
            self._keys |= {key.digest: ending, new.digest: new}

    def find(self, digest: KeyDigest) -> ApiKey | None:
        return self._keys.get(digest)

    def get(self, id_or_prefix: str) -> ApiKey:
        for key in list(self._keys.values()):
            if id_or_prefix in (key.id, key.prefix):
                return key
        raise UnknownKey

    def revoke(self, id_or_prefix: str, at: datetime) -> ApiKey:
        with self._lock:
            key = self.get(id_or_prefix)
            if key.revoked_at is None:
                key = self._keys[key.digest] = replace(key, revoked_at=at)
            return key

    def rehash(self, key: ApiKey, digest: KeyDigest, pepper: int) -> None:
        with self._lock:
            if self._keys.get(key.digest) == key:
                del self._keys[key.digest]
                self._keys[digest] = replace(key, digest=digest, pepper=pepper)

    def list(self, tenant: str | None) -> KeyList:
        with self._lock:
            keys = [k for k in self._keys.values() if tenant is None or k.tenant == tenant]
        return sorted(keys, key=lambda k: k.place)

    def page(self, tenant: str | None, page: PageRequest) -> Page[ApiKey]:
        keys = self.list(tenant)
        if page.after is not None:
            before = next((k for k in keys if k.id == page.after), None)
            if before is None:
                raise bad_cursor()
            keys = [k for k in keys if k.place > before.place]
        items = tuple(keys[: page.limit])
        return Page(items, items[-1].id if len(keys) > page.limit else None)

    def _check_room(self, new: ApiKey, others: KeyList) -> None:
        if any(new.digest == k.digest or new.id == k.id or new.prefix == k.prefix for k in others):
            raise DuplicateKey
        live = [k for k in others if k.status(new.created_at) == "active"]
        if sum((k.tenant, k.name) == (new.tenant, new.name) for k in live) >= LIVE_KEYS:
            raise too_many_keys(new)


def too_many_keys(new: ApiKey) -> TooManyKeys:
    return TooManyKeys(
        f"'{new.name}' of tenant '{new.tenant}' has {LIVE_KEYS} live keys, the most an owner may have. "
        "Revoke one of them, or rotate one without grace."
    )
