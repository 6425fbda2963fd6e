"""Whether a caller still stands whose requests no connection brings: lines of batches, background responses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from serving.errors import InvalidKey
from serving.tenants.callers import Caller
from serving.tenants.key_store import ApiKey, KeyStore, UnknownKey
from serving.tenants.stores import StoreUnavailable

_MOST = 10_000


class Standing:
    """A revoked key takes what it submitted with it: whoever found it must not go on spending. One that has expired, or
    was replaced, does not: what it asked for while it was good was allowed.

    For one event loop. cache_seconds: how long a good answer of the store is believed, and thus how long a revoked
    key's work goes on. While the store is away everybody stands: what they submitted was allowed when last anybody
    looked.
    """

    def __init__(
        self, store: KeyStore, *, cache_seconds: float = 2.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._cache_seconds = cache_seconds
        self._clock = clock
        self._good: dict[Caller, float] = {}

    async def check(self, caller: Caller) -> None:
        """Raise InvalidKey if the caller's key was revoked, or never allowed what the caller is said to be allowed:
        the row of a batch says that, and may have been changed. Identities of an issuer have no key: their tokens end.
        """
        if caller.key_id.startswith("oidc:"):
            return
        now = self._clock()
        if now - self._good.get(caller, float("-inf")) < self._cache_seconds:
            return
        try:
            key = await asyncio.to_thread(self._store.get, caller.key_id)
        except StoreUnavailable:
            return
        except UnknownKey:
            raise InvalidKey from None
        if key.revoked_at is not None or not key.genuine or not _is_within(caller, key):
            raise InvalidKey("The key that submitted this was revoked.")
        if len(self._good) >= _MOST:
            self._good.clear()
        self._good[caller] = now


def _is_within(caller: Caller, key: ApiKey) -> bool:
    if caller.tenant != key.tenant:
        return False
    return key.deployments is None or (caller.deployments is not None and caller.deployments <= key.deployments)
