"""The keyring: mints API keys, ends them, and identifies who holds one. Where keys are kept is key_store.py."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from serving.errors import InvalidKey, InvalidRequest
from serving.secret_versions import SecretVersion, VersionedSecret
from serving.tenants.answers import Answer, Answers
from serving.tenants.callers import ROLES, Caller, Network, Role
from serving.tenants.key_store import (
    ApiKey,
    DuplicateKey,
    KeyDigest,
    KeyEnded,
    KeyList,
    KeyStore,
    MemoryKeys,
    TooManyKeys,
    UnknownKey,
)
from serving.tenants.key_text import PREFIX_LENGTH, Secret, is_key_text, new_key_text, public_name
from serving.tenants.paging import Page, PageRequest
from serving.tenants.stores import StoreUnavailable

__all__ = [
    "ApiKey",
    "DuplicateKey",
    "KeyDigest",
    "KeyEnded",
    "KeyList",
    "KeyStore",
    "Keyring",
    "MemoryKeys",
    "Secret",
    "TooManyKeys",
    "UnknownKey",
    "is_key_text",
    "new_key_text",
    "utcnow",
]

_MOST_REVOKED = 100_000
LONGEST_GRACE = timedelta(days=365)
CENTURY = timedelta(days=36525)


def utcnow() -> datetime:
    return datetime.now(UTC)


class Keyring:
    """Mints keys and says who a key's holder is.

    `identify` belongs to one event loop. The other methods block on the store: call them from a thread in a server.

    cache_seconds    How long an answer of the store, good or bad, is believed: a revoked key works at most this long
                     elsewhere (here it stops at once). Expiry is checked on every request.
    stale_seconds    A key that was found valid within this time keeps working while the store is away; each such
                     request calls `on_stale`. Other keys get StoreUnavailable (503): a database that is down says
                     nothing about a key, and a 401 makes clients throw good keys away
                     (https://github.com/BerriAI/litellm/issues/28322). A gateway that is cut off from the store
                     therefore honours a key revoked meanwhile for up to stale_seconds; lower it if that is too long.
    lookup_seconds   A store that takes longer is away. While it is, one request per cache_seconds tries it again and
                     the others do not wait.
    on_refused       Told the id of a key that was revoked, and whose row says that it was not.

    A key whose digest is under an older version of the pepper is found by it, and gets one under the version that
    writes when it is next used: so an old version goes out of use by itself, but for keys that nobody uses.
    """

    def __init__(
        self,
        store: KeyStore,
        pepper: VersionedSecret | bytes,
        *,
        cache_seconds: float = 2.0,
        cache_size: int = 10_000,
        stale_seconds: float = 300.0,
        lookup_seconds: float = 2.0,
        on_stale: Callable[[], None] = lambda: None,
        on_refused: Callable[[str], None] = lambda key_id: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        if not pepper:
            raise ValueError("the pepper is empty: without it, digests of keys are no secret")
        self._store = store
        self._pepper = VersionedSecret.of(pepper)
        self._cache_seconds = cache_seconds
        self._stale_seconds = stale_seconds
        self._lookup_seconds = lookup_seconds
        self._on_stale = on_stale
        self._on_refused = on_refused
        self._clock = clock
        self._now = now
        self._answers = Answers(cache_size)
        self._revoked: set[str] = set()
        """Ids of keys that were seen revoked: they are never anything else again, whatever their rows say."""
        self._lookups: dict[KeyDigest, asyncio.Task[ApiKey | None]] = {}
        self._away_until: float | None = None
        """None while the store answers; else nobody asks it before this time."""

    def mint(
        self,
        tenant: str,
        name: str,
        expires_at: datetime | None = None,
        *,
        roles: frozenset[Role] = frozenset({"inference"}),
        deployments: frozenset[str] | None = None,
        networks: tuple[Network, ...] | None = None,
    ) -> tuple[ApiKey, Secret]:
        """Create and keep a key. The secret is in the answer only; nobody can read it again.

        Raises InvalidRequest, TooManyKeys (400) if the owner, this name in this tenant, has two live keys.
        """
        secret = new_key_text()
        key = replace(
            self._new(tenant, name, secret, expires_at), roles=roles, deployments=deployments, networks=networks
        )
        _check_rights(key)
        self._store.add(key)
        return key, secret

    def rotate(self, id_or_prefix: str, grace: timedelta, *, latest: datetime | None = None) -> tuple[ApiKey, Secret]:
        """A new key with the rights and the lifetime of this one, which goes on for `grace` if it does not end earlier.

        latest: when the new one ends at the latest; None: its lifetime alone decides.
        Raises UnknownKey, KeyEnded, TooManyKeys: an owner with two live keys has no room for a third, so then the one
        named is replaced at once (no grace) or not at all.
        """
        if not timedelta(0) <= grace <= LONGEST_GRACE:
            raise InvalidRequest(f"The grace of a key is 0 to {LONGEST_GRACE.days} days.", param="grace")
        old, secret = self.get(id_or_prefix), new_key_text()
        new = self._new(old.tenant, old.name, secret, None)
        new = replace(
            new,
            expires_at=_earlier(_lifetime_again(old, new.created_at), latest),
            roles=old.roles,
            deployments=old.deployments,
            networks=old.networks,
        )
        try:
            self._store.rotate(old.id, new, new.created_at + grace)
        finally:
            self._answers.forget(old.digest)
        return new, secret

    def adopt(
        self, tenant: str, name: str, secret: Secret, roles: frozenset[Role] = frozenset({"inference"})
    ) -> ApiKey:
        """Keep a key whose text exists already, such as that of a demo. Does nothing if the key is known, even revoked.

        Raises InvalidRequest for a text that is not a key's, DuplicateKey when another key has its prefix, TooManyKeys.
        """
        if not is_key_text(secret.reveal()):
            raise InvalidRequest("This is not the text of a key. 'clinserve keys create' makes one.")
        known = self.known(secret)
        if known is not None:
            return known
        key = replace(self._new(tenant, name, secret, None), roles=roles)
        try:
            self._store.add(key)
        except (DuplicateKey, TooManyKeys):  # another process adopted it since we looked, or the error is what it says
            known = self.known(secret)
            if known is None:
                raise
            return known
        finally:
            self._answers.forget(key.digest)
        return key

    def known(self, secret: Secret) -> ApiKey | None:
        """The key with this text, also when it has ended."""
        found = (self._store.find(digest) for digest in self._digests(secret.reveal()))
        return next(filter(None, found), None)

    async def identify(self, text: str) -> Caller:
        """Who holds this key. InvalidKey, with the same words for every reason; StoreUnavailable if nobody can say."""
        if not is_key_text(text):  # costs no lookup
            raise InvalidKey
        key = await self._find(self._digests(text))
        if key is None or key.status(self._now()) != "active":
            raise InvalidKey
        return Caller(
            tenant=key.tenant,
            key_id=key.id,
            key_name=key.name,
            roles=key.roles,
            deployments=key.deployments,
            networks=key.networks,
            expires_at=key.expires_at,
        )

    async def ready(self) -> bool:
        """Does the store answer now? Never raises."""
        try:
            await self._look_up(self._digests("")[:1])
        except StoreUnavailable:
            return False
        return True

    def get(self, id_or_prefix: str) -> ApiKey:
        """What is kept of a key, also of an ended one, or raise UnknownKey. Takes the whole text of a key too."""
        return self._store.get(public_name(id_or_prefix))

    def revoke(self, id_or_prefix: str) -> ApiKey:
        """End a key now, or raise UnknownKey. Takes the whole text of a key too: a leaked one is at hand as such."""
        key = self._store.revoke(public_name(id_or_prefix), self._now())
        self._remember_revoked(key)
        self._answers.forget(key.digest)
        return key

    def list(self, tenant: str | None = None) -> KeyList:
        return self._store.list(tenant)

    def page(self, tenant: str | None, page: PageRequest) -> Page[ApiKey]:
        return self._store.page(tenant, page)

    def _new(self, tenant: str, name: str, secret: Secret, expires_at: datetime | None) -> ApiKey:
        text, now = secret.reveal(), self._now()
        for field, value in (("tenant", tenant), ("name", name)):
            if not (0 < len(value) <= 100 and value.isprintable() and value == value.strip()):
                raise InvalidRequest(f"The {field} of a key is 1 to 100 printable characters.", param=field)
        if expires_at is not None and expires_at.tzinfo is None:
            raise InvalidRequest("The time at which a key expires needs a time zone.", param="expires_at")
        if expires_at is not None and expires_at <= now:
            raise InvalidRequest("A new key cannot expire in the past.", param="expires_at")
        prefix = text[:PREFIX_LENGTH]
        return ApiKey(
            id=prefix.removeprefix("csk_"),
            tenant=tenant,
            name=name,
            prefix=prefix,
            digest=self._digest(text),
            created_at=now,
            expires_at=expires_at,
            revoked_at=None,
            pepper=self._pepper.writing.number,
        )

    def _digest(self, text: str) -> KeyDigest:
        return digest_of(text, self._pepper.writing)

    def _digests(self, text: str) -> tuple[KeyDigest, ...]:
        """Under each version of the pepper; that of the one that writes is the first."""
        writing = self._pepper.writing
        others = [version for version in self._pepper.versions if version != writing]
        return tuple(digest_of(text, version) for version in (writing, *others))

    async def _find(self, digests: tuple[KeyDigest, ...]) -> ApiKey | None:
        # What was found is remembered under the digest of its row, so that a revocation forgets it; nothing, under the
        # first.
        answer = next(filter(None, map(self._answers.get, digests)), None)
        if answer is not None and self._clock() - answer.asked_at < self._cache_seconds:
            return answer.key
        try:
            return await self._ask(digests)
        except StoreUnavailable as away:
            if answer is None or answer.key is None or self._clock() - answer.asked_at > self._stale_seconds:
                raise StoreUnavailable from away  # a new one each: many requests may share the lookup that failed
            self._on_stale()
            return answer.key

    async def _ask(self, digests: tuple[KeyDigest, ...]) -> ApiKey | None:
        """Ask the store, once for all requests that hold the same key.

        The lookup is a task of its own so that the first client to leave does not take the others with it.
        """
        digest = digests[0]
        lookup = self._lookups.get(digest)
        if lookup is None:
            self._take_turn()
            lookup = self._lookups[digest] = asyncio.create_task(self._look_up(digests))
            lookup.add_done_callback(lambda done: self._looked_up(digest, done))
        return await asyncio.shield(lookup)

    def _take_turn(self) -> None:
        """Go ahead if the store is well, or if it is time that one request tries it again; else StoreUnavailable."""
        if self._away_until is None:
            return
        if self._clock() < self._away_until:
            raise StoreUnavailable
        self._away_until = self._clock() + self._lookup_seconds

    async def _look_up(self, digests: tuple[KeyDigest, ...]) -> ApiKey | None:
        asked_at = self._clock()  # not when answered: a key revoked in between would live longer than cache_seconds
        try:
            async with asyncio.timeout(self._lookup_seconds):
                key = await asyncio.to_thread(self._read, digests)
        except (StoreUnavailable, TimeoutError) as away:
            self._away_until = self._clock() + self._cache_seconds
            raise StoreUnavailable from away
        self._away_until = None
        self._answers.put(digests[0] if key is None else key.digest, Answer(key, asked_at))
        return key

    def _read(self, digests: tuple[KeyDigest, ...]) -> ApiKey | None:
        """The key with one of these digests, in a thread. It has the first one afterwards."""
        # The first once more: between the two looks another gateway may have given the key its new digest.
        looks = digests if len(digests) == 1 else (*digests, digests[0])
        key = next(filter(None, map(self._store.find, looks)), None)
        if key is None or not key.genuine:
            return key
        if key.revoked_at is not None:
            self._remember_revoked(key)
        elif key.id in self._revoked:
            self._on_refused(key.id)
            return replace(key, genuine=False)
        if key.digest != digests[0]:
            with suppress(StoreUnavailable):  # it is good as it is
                writing = self._pepper.writing
                self._store.rehash(key, digests[0], writing.number)
        return key

    def _remember_revoked(self, key: ApiKey) -> None:
        if len(self._revoked) < _MOST_REVOKED:
            self._revoked.add(key.id)

    def _looked_up(self, digest: KeyDigest, lookup: asyncio.Task[ApiKey | None]) -> None:
        del self._lookups[digest]
        if not lookup.cancelled():
            lookup.exception()  # all who waited may have left; asyncio would log "exception was never retrieved"


def digest_of(text: str, pepper: SecretVersion) -> KeyDigest:
    return KeyDigest(hmac.new(pepper.value, text.encode(), hashlib.sha256).hexdigest())


def _check_rights(key: ApiKey) -> None:
    if not key.roles or not key.roles <= set(ROLES):
        raise InvalidRequest(f"A key has one or more of the roles {', '.join(ROLES)}.", param="roles")
    check_named(key.deployments, key.networks)


def check_named(deployments: frozenset[str] | None, networks: tuple[Network, ...] | None) -> None:
    """Raise InvalidRequest for an empty list: None says all."""
    for field, names in (("deployments", deployments), ("networks", networks)):
        if names is not None and not names:
            raise InvalidRequest(f"{field}: name at least one, or leave it out for all.", param=field)


def _lifetime_again(old: ApiKey, now: datetime) -> datetime | None:
    """As long from now as the old key was to last, never less than it does. 9999-12-31, as never, has no successor."""
    if old.expires_at is None:
        return None
    return max(old.expires_at, now + min(CENTURY, old.expires_at - old.created_at))


def _earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    """None: never."""
    return one if other is None else other if one is None else min(one, other)
