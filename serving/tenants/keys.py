"""API keys: their text, who they belong to, and the keyring that identifies a caller. The database is in sql.py.

    csk_ab12cd34_<32 random characters><6 characters of CRC32>
    └── prefix ─┘     the rest is the secret

The prefix may be shown and logged. The whole text exists in its owner's hands only: we keep an HMAC of it.
"""

import asyncio
import hashlib
import hmac
import re
import secrets
import string
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal, NewType, Protocol

from serving.errors import InvalidKey, InvalidRequest, ServingError

KeyDigest = NewType("KeyDigest", str)
"""hex HMAC-SHA256(pepper, key text)"""

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
KEY_TEXT = re.compile(r"(?P<body>csk_(?P<id>[0-9A-Za-z]{8})_[0-9A-Za-z]{32})(?P<checksum>[0-9A-Za-z]{6})")
PREFIX_LENGTH = len("csk_ab12cd34")


class StoreUnavailable(ServingError):
    """The keys cannot be read now. Says nothing about the caller's key, so it is never a 401."""

    status, kind, code = 503, "server_error", "store_unavailable"
    default_message = "API keys cannot be checked right now. Nothing was generated; try again shortly."

    def __init__(self, message: str = "") -> None:
        super().__init__(message, retry_after=2)


class UnknownKey(ServingError):
    """An operator named a key that does not exist. Does not quote the name: it may be a whole key, pasted."""

    status, kind, code = 404, "invalid_request_error", "key_not_found"
    default_message = "No key has this id or prefix."


class DuplicateKey(Exception):
    """The id, prefix or digest of a new key is taken."""

    def __init__(self) -> None:
        super().__init__("Another key has the same prefix. Create a new one.")


class StoreTooNew(Exception):
    """The store was written by a newer release, so this one cannot know what its rows mean."""


class Secret:
    """A key text that does not show when printed, formatted or logged."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What we keep of a key. All times are UTC and aware."""

    id: str
    tenant: str
    name: str
    prefix: str
    digest: KeyDigest
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None

    def status(self, now: datetime) -> Literal["active", "expired", "revoked"]:
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


KeyList = list[ApiKey]  # inside a class that has a method `list`, the annotation list[...] names the method


@dataclass(frozen=True, slots=True)
class Caller:
    """Who a request is from."""

    tenant: str
    key_id: str
    key_name: str


class KeyStore(Protocol):
    """Where keys are kept. Called from several threads at once.

    Every method raises `StoreUnavailable` when the store cannot answer.
    """

    def add(self, key: ApiKey) -> None:
        """Keep a new key, or raise `DuplicateKey` and keep nothing."""

    def find(self, digest: KeyDigest) -> ApiKey | None:
        """The key with this digest, also when it is revoked or expired."""

    def revoke(self, id_or_prefix: str, at: datetime) -> ApiKey:
        """Mark the key as revoked and return it, or raise `UnknownKey`. A revoked key keeps its first time."""

    def list(self, tenant: str | None) -> KeyList:
        """The keys of one tenant, or of all; oldest first."""


class MemoryKeys:
    """Keys that end with the process."""

    def __init__(self) -> None:
        self._keys: dict[KeyDigest, ApiKey] = {}
        self._lock = threading.Lock()

    def add(self, key: ApiKey) -> None:
        with self._lock:
            if key.digest in self._keys or any(k.id == key.id or k.prefix == key.prefix for k in self._keys.values()):
                raise DuplicateKey
            self._keys[key.digest] = key

    def find(self, digest: KeyDigest) -> ApiKey | None:
        return self._keys.get(digest)

    def revoke(self, id_or_prefix: str, at: datetime) -> ApiKey:
        with self._lock:
            key = next((k for k in self._keys.values() if id_or_prefix in (k.id, k.prefix)), None)
            if key is None:
                raise UnknownKey
            if key.revoked_at is None:
                key = self._keys[key.digest] = replace(key, revoked_at=at)
            return key

    def list(self, tenant: str | None) -> KeyList:
        with self._lock:
            keys = [k for k in self._keys.values() if tenant is None or k.tenant == tenant]
        return sorted(keys, key=lambda k: (k.created_at, k.id))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store said about a digest, and when it was asked."""

    key: ApiKey | None
    asked_at: float


class Answers:
    """The store's last answers, the least recently used dropped first.

    "Here it is" and "no such key" are bounded apart: a flood of invented, well-formed keys pushes out no real one.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._found: OrderedDict[KeyDigest, Answer] = OrderedDict()
        self._missing: OrderedDict[KeyDigest, Answer] = OrderedDict()
        self._lock = threading.Lock()  # revoke and adopt run in other threads than identify

    def get(self, digest: KeyDigest) -> Answer | None:
        with self._lock:
            for answers in (self._found, self._missing):
                if digest in answers:
                    answers.move_to_end(digest)
                    return answers[digest]
        return None

    def put(self, digest: KeyDigest, answer: Answer) -> None:
        into, out_of = (self._missing, self._found) if answer.key is None else (self._found, self._missing)
        with self._lock:
            out_of.pop(digest, None)
            into[digest] = answer
            into.move_to_end(digest)
            if len(into) > self._size:
                into.popitem(last=False)

    def forget(self, digest: KeyDigest) -> None:
        with self._lock:
            self._found.pop(digest, None)
            self._missing.pop(digest, None)


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
    """

    def __init__(
        self,
        store: KeyStore,
        pepper: bytes,
        *,
        cache_seconds: float = 2.0,
        cache_size: int = 10_000,
        stale_seconds: float = 300.0,
        lookup_seconds: float = 2.0,
        on_stale: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        if not pepper:
            raise ValueError("the pepper is empty: without it, digests of keys are no secret")
        self._store = store
        self._pepper = pepper
        self._cache_seconds = cache_seconds
        self._stale_seconds = stale_seconds
        self._lookup_seconds = lookup_seconds
        self._on_stale = on_stale
        self._clock = clock
        self._now = now
        self._answers = Answers(cache_size)
        self._lookups: dict[KeyDigest, asyncio.Task[ApiKey | None]] = {}
        self._away_until: float | None = None
        """None while the store answers; else nobody asks it before this time."""

    def mint(self, tenant: str, name: str, expires_at: datetime | None = None) -> tuple[ApiKey, Secret]:
        """Create and keep a key. The secret is in the answer only; nobody can read it again."""
        secret = new_key_text()
        return self._add(tenant, name, secret, expires_at), secret

    def adopt(self, tenant: str, name: str, secret: Secret) -> ApiKey:
        """Keep a key whose text exists already, such as that of a demo. Does nothing if the key is known, even revoked.

        Raises InvalidRequest for a text that is not a key's, DuplicateKey when another key has its prefix.
        """
        if not is_key_text(secret.reveal()):
            raise InvalidRequest("This is not the text of a key. 'clinserve keys create' makes one.")
        digest = self._digest(secret.reveal())
        known = self._store.find(digest)
        if known is not None:
            return known
        try:
            return self._add(tenant, name, secret, None)
        except DuplicateKey:  # another process adopted it since we looked; or it is another key with this prefix
            known = self._store.find(digest)
            if known is None:
                raise
            return known
        finally:
            self._answers.forget(digest)

    async def identify(self, text: str) -> Caller:
        """Who holds this key. InvalidKey, with the same words for every reason; StoreUnavailable if nobody can say."""
        if not is_key_text(text):  # costs no lookup
            raise InvalidKey
        key = await self._find(self._digest(text))
        if key is None or key.status(self._now()) != "active":
            raise InvalidKey
        return Caller(tenant=key.tenant, key_id=key.id, key_name=key.name)

    async def ready(self) -> bool:
        """Does the store answer now? Never raises."""
        try:
            await self._look_up(self._digest(""))
        except StoreUnavailable:
            return False
        return True

    def revoke(self, id_or_prefix: str) -> ApiKey:
        """End a key now, or raise UnknownKey. Takes the whole text of a key too: a leaked one is at hand as such."""
        name = id_or_prefix[:PREFIX_LENGTH] if is_key_text(id_or_prefix) else id_or_prefix
        key = self._store.revoke(name, self._now())
        self._answers.forget(key.digest)
        return key

    def list(self, tenant: str | None = None) -> KeyList:
        return self._store.list(tenant)

    def _add(self, tenant: str, name: str, secret: Secret, expires_at: datetime | None) -> ApiKey:
        text, now = secret.reveal(), self._now()
        for field, value in (("tenant", tenant), ("name", name)):
            if not (0 < len(value) <= 100 and value.isprintable() and value == value.strip()):
                raise InvalidRequest(f"The {field} of a key is 1 to 100 printable characters.", param=field)
        if expires_at is not None and expires_at <= now:
            raise InvalidRequest("A new key cannot expire in the past.", param="expires_at")
        prefix = text[:PREFIX_LENGTH]
        key = ApiKey(
            id=prefix.removeprefix("csk_"),
            tenant=tenant,
            name=name,
            prefix=prefix,
            digest=self._digest(text),
            created_at=now,
            expires_at=expires_at,
            revoked_at=None,
        )
        self._store.add(key)
        return key

    def _digest(self, text: str) -> KeyDigest:
        return KeyDigest(hmac.new(self._pepper, text.encode(), hashlib.sha256).hexdigest())

    async def _find(self, digest: KeyDigest) -> ApiKey | None:
        answer = self._answers.get(digest)
        if answer is not None and self._clock() - answer.asked_at < self._cache_seconds:
            return answer.key
        try:
            return await self._ask(digest)
        except StoreUnavailable as away:
            if answer is None or answer.key is None or self._clock() - answer.asked_at > self._stale_seconds:
                raise StoreUnavailable from away  # a new one each: many requests may share the lookup that failed
            self._on_stale()
            return answer.key

    async def _ask(self, digest: KeyDigest) -> ApiKey | None:
        """Ask the store, once for all requests that hold the same key.

        The lookup is a task of its own so that the first client to leave does not take the others with it.
        """
        lookup = self._lookups.get(digest)
        if lookup is None:
            self._take_turn()
            lookup = self._lookups[digest] = asyncio.create_task(self._look_up(digest))
            lookup.add_done_callback(lambda done: self._looked_up(digest, done))
        return await asyncio.shield(lookup)

    def _take_turn(self) -> None:
        """Go ahead if the store is well, or if it is time that one request tries it again; else StoreUnavailable."""
        if self._away_until is None:
            return
        if self._clock() < self._away_until:
            raise StoreUnavailable
        self._away_until = self._clock() + self._lookup_seconds

    async def _look_up(self, digest: KeyDigest) -> ApiKey | None:
        asked_at = self._clock()  # not when answered: a key revoked in between would live longer than cache_seconds
        try:
            async with asyncio.timeout(self._lookup_seconds):
                key = await asyncio.to_thread(self._store.find, digest)
        except (StoreUnavailable, TimeoutError) as away:
            self._away_until = self._clock() + self._cache_seconds
            raise StoreUnavailable from away
        self._away_until = None
        self._answers.put(digest, Answer(key, asked_at))
        return key

    def _looked_up(self, digest: KeyDigest, lookup: asyncio.Task[ApiKey | None]) -> None:
        del self._lookups[digest]
        if not lookup.cancelled():
            lookup.exception()  # all who waited may have left; asyncio would log "exception was never retrieved"


def new_key_text() -> Secret:
    def random(length: int) -> str:
        return "".join(secrets.choice(BASE62) for _ in range(length))

    body = f"csk_{random(8)}_{random(32)}"
    return Secret(body + checksum(body))


def is_key_text(text: str) -> bool:
    """Whether this can be a key at all: shape and checksum. Any typo of one character fails."""
    match = KEY_TEXT.fullmatch(text)
    return match is not None and match["checksum"] == checksum(match["body"])


def checksum(body: str) -> str:
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits = BASE62[digit] + digits
    return digits
