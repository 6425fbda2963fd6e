"""An issuer's public keys: where they are fetched and how long they are believed. Tokens are read in tokens.py.

Fetched with aiohttp rather than urllib in a thread: its timeout ends the whole exchange, where an issuer that sends a
byte now and then would keep a thread for as long as it likes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import urlsplit

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

from serving.errors import ServingError

Family = Literal["RSA", "P-256", "P-384"]
"""What a key can verify: RSA any of RS* and PS*, a curve its one algorithm."""
FAMILIES: Mapping[str, Family] = {
    "RS256": "RSA",
    "RS384": "RSA",
    "RS512": "RSA",
    "PS256": "RSA",
    "ES256": "P-256",
    "ES384": "P-384",
}
"""The signature algorithms that are believed. No `none`, and no HMAC: its secret would be the public key."""

PublicKey = RSAPublicKey | EllipticCurvePublicKey
Keys = Mapping[tuple[str, str], PublicKey]
"""By key id and algorithm."""
Read = Callable[[], Awaitable[Keys]]

MAX_DOCUMENT = 2**20
MAX_KEYS = 100
_log = logging.getLogger(__name__)


class IdentityUnavailable(ServingError):
    """The issuer's keys cannot be had. Says nothing about the token, so it is never a 401."""

    status, kind, code = 503, "server_error", "identity_unavailable"
    default_message = "The identity provider cannot be reached right now, so the access token cannot be checked."


class KeysUnreadable(Exception):
    """A fetch failed. The message is ours and quotes nothing of the answer: it is logged."""


class IssuerKeys:
    """The keys of one issuer, remembered. Belongs to one event loop.

    max_age          Seconds after which they are fetched again, in the background: a request whose key is at hand
                     never waits for the issuer.
    max_stale        Seconds that they stay valid while every fetch fails.
    refetch_seconds  At most one fetch in this time, for one kid or for a flood of invented ones. While no key was ever
                     had, the next try may come after fetch_seconds.
    fetch_seconds    An issuer that takes longer is away.
    """

    def __init__(
        self,
        issuer: str,
        read: Read,
        *,
        max_age: float = 3600.0,
        max_stale: float = 24 * 3600.0,
        refetch_seconds: float = 30.0,
        fetch_seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._read = read
        self._max_age = max_age
        self._max_stale = max_stale
        self._refetch_seconds = refetch_seconds
        self._fetch_seconds = fetch_seconds
        self._clock = clock
        self._keys: Keys = {}
        self._fetched_at = self._next_fetch = clock()
        self._failed = False
        """Whether the last fetch did."""
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, kid: str, algorithm: str) -> PublicKey | None:
        """The key for this id and algorithm; None if the issuer has none. IdentityUnavailable if nobody can say."""
        key = self._valid().get((kid, algorithm))
        if key is not None:
            if self._clock() - self._fetched_at > self._max_age:
                self._fetch()
            return key
        if (fetch := self._fetch()) is not None:
            await asyncio.shield(fetch)  # others wait for it too: the first to leave must not end it
        key = self._valid().get((kid, algorithm))
        if key is None and self._failed:
            raise IdentityUnavailable(retry_after=max(1.0, self._next_fetch - self._clock()))
        return key

    async def close(self) -> None:
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching], timeout=self._fetch_seconds)

    def _valid(self) -> Keys:
        return self._keys if self._clock() - self._fetched_at <= self._max_stale else {}

    def _fetch(self) -> asyncio.Task[None] | None:
        """The fetch under way, or a new one; None if it is not time for one."""
        if self._fetching is None and self._clock() >= self._next_fetch:
            self._next_fetch = self._clock() + self._refetch_seconds
            self._fetching = asyncio.create_task(self._refetch())
            self._fetching.add_done_callback(self._fetched)
        return self._fetching

    async def _refetch(self) -> None:
        asked_at = self._clock()
        try:
            async with asyncio.timeout(self._fetch_seconds):
                self._keys = await self._read()
        except (KeysUnreadable, TimeoutError) as failure:
            self._failed = True
            if not self._keys:
                self._next_fetch = self._clock() + self._fetch_seconds
            # Old keys go on; without them each request is a 503. Once in refetch_seconds at most, so a line each.
            reason = str(failure) or f"no answer within {self._fetch_seconds:g} s"
            _log.warning("keys of issuer %s cannot be fetched: %s", self._issuer, reason)
            return
        self._failed, self._fetched_at = False, asked_at

    def _fetched(self, fetch: asyncio.Task[None]) -> None:
        self._fetching = None
        if not fetch.cancelled():
            fetch.exception()  # in the background nobody awaits it; asyncio would log that it was never retrieved


async def read_keys(url: str) -> Keys:
    """The keys in a JWKS document. Raises KeysUnreadable."""
    document = await _get(url)
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise KeysUnreadable(f"the document has no list of at most {MAX_KEYS} keys")
    keys: dict[tuple[str, str], PublicKey] = {}
    for jwk in listed:
        if isinstance(jwk, dict):
            keys |= _usable(jwk)
    if not keys:
        raise KeysUnreadable("none of the keys in the document can verify signatures")
    return keys


async def discover_keys(issuer: str) -> Keys:
    """The keys of an OpenID Connect issuer, found by its discovery document. Raises KeysUnreadable."""
    document = await _get(issuer.rstrip("/") + "/.well-known/openid-configuration")
    if document.get("issuer") != issuer:
        raise KeysUnreadable("the discovery document is another issuer's")
    url = document.get("jwks_uri")
    if not isinstance(url, str) or not may_be_asked(url) or (is_loopback(url) and not is_loopback(issuer)):
        raise KeysUnreadable("the discovery document's jwks_uri is no https address")
    return await read_keys(url)


def may_be_asked(url: str) -> bool:
    """https anywhere, http only on this machine: whoever can change the keys on their way can sign for anybody."""
    try:
        parts = urlsplit(url)
        fit_to_log = url.isprintable() and " " not in url and parts.username is None
        safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(url))
        return bool(parts.hostname) and fit_to_log and safe
    except ValueError:
        return False


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


async def _get(url: str) -> dict[str, object]:
    """A JSON object. No redirects, cookies or compression: none is needed, and each is a way around a bound."""
    session = aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=not is_loopback(url),  # hospitals have proxies
        headers={"accept": "application/json", "accept-encoding": "identity"},
    )
    body = bytearray()
    try:
        async with session, session.get(url, allow_redirects=False) as answer:
            if answer.status != 200:
                raise KeysUnreadable(f"{url} answered {answer.status}")
            async for piece in answer.content.iter_chunked(2**16):
                body += piece
                if len(body) > MAX_DOCUMENT:
                    raise KeysUnreadable(f"{url} sends more than {MAX_DOCUMENT} bytes")
        document = json.loads(body)
    except (aiohttp.ClientError, OSError) as error:
        raise KeysUnreadable(f"{url}: {type(error).__name__}") from error
    except (ValueError, RecursionError) as error:
        raise KeysUnreadable(f"{url} answers no JSON") from error
    if not isinstance(document, dict):
        raise KeysUnreadable(f"{url} answers no JSON object")
    return document


def _usable(jwk: dict[str, object]) -> dict[tuple[str, str], PublicKey]:
    """The key under each algorithm that it may verify; empty if it is of no use here."""
    kid, kty, curve, only = jwk.get("kid"), jwk.get("kty"), jwk.get("crv"), jwk.get("alg")
    if not isinstance(kid, str) or jwk.get("use", "sig") != "sig":
        return {}
    family = "RSA" if kty == "RSA" else curve if kty == "EC" else None
    fitting = [alg for alg, its in FAMILIES.items() if its == family and only in (None, alg)]
    if not fitting:
        return {}
    # Public members only: PyJWT would make a private key of one that an issuer publishes by mistake.
    public: dict[str, Any] = {name: jwk[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in jwk}
    try:
        key = RSAAlgorithm.from_jwk(public) if family == "RSA" else ECAlgorithm.from_jwk(public)
    except (PyJWTError, ValueError, TypeError):
        return {}
    return {(kid, alg): key for alg in fitting} if isinstance(key, RSAPublicKey | EllipticCurvePublicKey) else {}
