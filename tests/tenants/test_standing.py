"""What a revoked key has submitted stops; what an expired one has, goes on."""

from datetime import UTC, datetime, timedelta

import pytest

from serving.errors import InvalidKey
from serving.tenants.callers import Caller
from serving.tenants.key_store import ApiKey, MemoryKeys
from serving.tenants.keys import Keyring
from serving.tenants.standing import Standing
from serving.tenants.stores import StoreUnavailable

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Keys(MemoryKeys):
    """Counts looks, and can be away."""

    looks, away = 0, False

    def get(self, id: str) -> ApiKey:
        self.looks += 1
        if self.away:
            raise StoreUnavailable
        return super().get(id)


class Site:
    def __init__(self) -> None:
        self.seconds = 0.0
        self.keys = Keys()
        self.keyring = Keyring(self.keys, b"pepper", now=lambda: NOON + timedelta(seconds=self.seconds))
        self.standing = Standing(self.keys, cache_seconds=2.0, clock=lambda: self.seconds)
        key, _ = self.keyring.mint("hospital", "app", NOON + timedelta(hours=1))
        self.caller = Caller("hospital", key.id, key.name)


async def test_a_revoked_key_stands_no_more_within_two_seconds() -> None:
    site = Site()
    await site.standing.check(site.caller)
    site.keyring.revoke(site.caller.key_id)
    site.seconds += 1.9
    await site.standing.check(site.caller)
    site.seconds += 0.2
    with pytest.raises(InvalidKey, match="was revoked"):
        await site.standing.check(site.caller)


async def test_a_key_that_expired_or_was_replaced_still_stands_for_what_it_had_submitted() -> None:
    site = Site()
    site.keyring.rotate(site.caller.key_id, timedelta(0))
    site.seconds += 86400
    await site.standing.check(site.caller)


async def test_the_store_is_asked_once_in_two_seconds_and_never_for_the_holder_of_a_token() -> None:
    site = Site()
    for _ in range(100):
        await site.standing.check(site.caller)
        await site.standing.check(Caller("hospital", "oidc:issuer/somebody", "user"))
    assert site.keys.looks == 1


async def test_while_the_store_is_away_everybody_stands() -> None:
    site = Site()
    site.keys.away = True
    await site.standing.check(site.caller)


async def test_a_key_that_nobody_knows_does_not_stand() -> None:
    with pytest.raises(InvalidKey):
        await Site().standing.check(Caller("hospital", "elsewhere", "app"))
