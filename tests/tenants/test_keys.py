"""Minting keys and identifying who holds them."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from serving.errors import InvalidKey, InvalidRequest
from serving.tenants.callers import Caller
from serving.tenants.key_store import ApiKey, KeyDigest, KeyEnded, MemoryKeys, TooManyKeys, UnknownKey
from serving.tenants.key_text import Secret, checksum, is_key_text, new_key_text
from serving.tenants.keys import Keyring
from serving.tenants.stores import StoreUnavailable

PEPPER = b"a pepper for tests"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class WatchedKeys(MemoryKeys):
    """Counts lookups, and can be slow or away."""

    def __init__(self) -> None:
        super().__init__()
        self.lookups = 0
        self.away = False
        self.open = threading.Event()  # lookups wait for it
        self.open.set()

    def find(self, digest: KeyDigest) -> ApiKey | None:
        self.lookups += 1
        self.open.wait(5)
        if self.away:
            raise StoreUnavailable
        return super().find(digest)


class Time:
    """A clock and a calendar that stand still until told."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def clock(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.seconds)


@pytest.fixture
def store() -> WatchedKeys:
    return WatchedKeys()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def keyring(store: WatchedKeys, time: Time) -> Keyring:
    return Keyring(store, PEPPER, clock=time.clock, now=time.now)


async def test_a_minted_key_identifies_its_caller(keyring: Keyring) -> None:
    key, secret = keyring.mint("ward", "ci-bot")
    assert await keyring.identify(secret.reveal()) == Caller(tenant="ward", key_id=key.id, key_name="ci-bot")
    assert secret.reveal().startswith(key.prefix)
    assert len(key.prefix) == 12


async def test_a_key_gives_its_caller_the_roles_and_bounds_it_was_made_with(keyring: Keyring) -> None:
    key, secret = keyring.mint(
        "ward",
        "ci-bot",
        roles=frozenset({"inference", "auditor"}),
        deployments=frozenset({"notes"}),
        networks=(ip_network("10.0.0.0/8"),),
    )
    caller = await keyring.identify(secret.reveal())
    assert (caller.roles, caller.deployments, caller.networks) == (key.roles, key.deployments, key.networks)
    assert caller.roles == {"inference", "auditor"}
    assert caller.may_call("notes") and not caller.may_call("echo")


@pytest.mark.parametrize(
    "rights", [{"roles": frozenset()}, {"roles": frozenset({"root"})}, {"deployments": frozenset()}, {"networks": ()}]
)
def test_rights_that_mean_nothing_are_refused_by_their_name(keyring: Keyring, rights: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="|".join(rights)):
        keyring.mint("ward", "ci-bot", **rights)
    assert keyring.list() == []


def test_a_secret_shows_in_no_kind_of_text() -> None:
    secret = new_key_text()
    assert {repr(secret), str(secret), f"{secret}", f"{secret!r:>3}", "%s" % secret} == {"***"}  # noqa: UP031


def test_what_is_kept_depends_on_the_pepper_and_holds_no_part_of_the_secret(store: WatchedKeys) -> None:
    secret = new_key_text()
    kept = Keyring(store, PEPPER).adopt("ward", "demo", secret)
    elsewhere = Keyring(MemoryKeys(), b"another pepper").adopt("ward", "demo", secret)
    assert kept.digest != elsewhere.digest
    assert secret.reveal()[13:] not in repr(kept)


def test_an_empty_pepper_is_refused() -> None:
    with pytest.raises(ValueError, match="pepper"):
        Keyring(MemoryKeys(), b"")


@pytest.mark.parametrize("text", ["", " ", "x" * 201, "two\nlines", " padded"])
def test_a_tenant_or_name_that_would_confuse_a_list_is_refused(keyring: Keyring, text: str) -> None:
    with pytest.raises(InvalidRequest, match="tenant"):
        keyring.mint(text, "ci-bot")
    with pytest.raises(InvalidRequest, match="name"):
        keyring.mint("ward", text)


def test_a_key_cannot_be_born_expired(keyring: Keyring) -> None:
    with pytest.raises(InvalidRequest, match="past"):
        keyring.mint("ward", "ci-bot", expires_at=NOON)


def test_a_time_without_a_zone_is_refused(keyring: Keyring) -> None:
    with pytest.raises(InvalidRequest, match="time zone"):
        keyring.mint("ward", "ci-bot", expires_at=datetime(2030, 1, 1))


VALID = new_key_text().reveal()


@given(place=st.integers(0, len(VALID) - 1), character=st.characters())
@settings(max_examples=300)
def test_any_change_of_one_character_is_refused(place: int, character: str) -> None:
    assume(character != VALID[place])
    assert is_key_text(VALID)
    assert not is_key_text(VALID[:place] + character + VALID[place + 1 :])


JUNK = [
    "",
    "csk_",
    "sk-1234",
    VALID[:-1],
    VALID + "0",
    VALID + "\n",
    " " + VALID,
    VALID.replace("csk_", "CSK_"),
    VALID[:12] + "-" + VALID[13:],  # the separator
    VALID[:20] + "é" + VALID[21:],  # a letter, but not ours
    VALID[:20] + "٣" + VALID[21:],  # a digit, but not ours
    VALID[:20] + "\ud800" + VALID[21:],  # cannot even be encoded
    VALID[:45] + "000000",  # the checksum
    "csk_" + "A" * 1_000_000,
]


@pytest.mark.parametrize("text", JUNK, ids=range(len(JUNK)))
async def test_junk_never_touches_the_store(keyring: Keyring, store: WatchedKeys, text: str) -> None:
    with pytest.raises(InvalidKey):
        await keyring.identify(text)
    assert store.lookups == 0


async def test_every_refusal_reads_the_same_and_quotes_nothing(keyring: Keyring, time: Time) -> None:
    expired = keyring.mint("ward", "old", expires_at=NOON + timedelta(seconds=1))[1]
    key, revoked = keyring.mint("ward", "leaked")
    keyring.revoke(key.id)
    time.seconds = 1
    words = set()
    for text in ("junk", new_key_text().reveal(), expired.reveal(), revoked.reveal()):
        with pytest.raises(InvalidKey) as refusal:
            await keyring.identify(text)
        words.add(str(refusal.value))
    assert words == {InvalidKey.default_message}


async def test_a_key_ends_on_the_second_it_expires_though_it_is_cached(keyring: Keyring, time: Time) -> None:
    _, secret = keyring.mint("ward", "ci-bot", expires_at=NOON + timedelta(seconds=1))
    time.seconds = 0.9
    await keyring.identify(secret.reveal())
    time.seconds = 1.0
    with pytest.raises(InvalidKey):
        await keyring.identify(secret.reveal())


async def test_a_key_revoked_here_ends_at_once(keyring: Keyring) -> None:
    key, secret = keyring.mint("ward", "ci-bot")
    await keyring.identify(secret.reveal())
    keyring.revoke(key.prefix)
    with pytest.raises(InvalidKey):
        await keyring.identify(secret.reveal())


async def test_a_key_revoked_elsewhere_ends_within_cache_seconds(
    keyring: Keyring, store: WatchedKeys, time: Time
) -> None:
    key, secret = keyring.mint("ward", "ci-bot")
    await keyring.identify(secret.reveal())
    Keyring(store, PEPPER).revoke(key.id)
    time.seconds = 1.9
    await keyring.identify(secret.reveal())
    time.seconds = 2.0
    with pytest.raises(InvalidKey):
        await keyring.identify(secret.reveal())


def test_a_leaked_key_can_be_revoked_by_its_text(keyring: Keyring, time: Time) -> None:
    key, secret = keyring.mint("ward", "ci-bot")
    assert keyring.revoke(secret.reveal()).id == key.id
    with pytest.raises(UnknownKey) as refusal:
        keyring.revoke(VALID)
    assert VALID[12:] not in repr(refusal.value)


async def test_answers_good_and_bad_are_cached(keyring: Keyring, store: WatchedKeys, time: Time) -> None:
    _, secret = keyring.mint("ward", "ci-bot")
    for _ in range(3):
        await keyring.identify(secret.reveal())
        with pytest.raises(InvalidKey):
            await keyring.identify(VALID)
    assert store.lookups == 2


async def test_a_flood_of_invented_keys_pushes_out_no_real_one(store: WatchedKeys, time: Time) -> None:
    keyring = Keyring(store, PEPPER, cache_size=2, clock=time.clock, now=time.now)
    _, secret = keyring.mint("ward", "ci-bot")
    await keyring.identify(secret.reveal())
    for _ in range(5):
        with pytest.raises(InvalidKey):
            await keyring.identify(new_key_text().reveal())
    lookups = store.lookups
    await keyring.identify(secret.reveal())
    assert store.lookups == lookups


async def test_the_cache_keeps_the_keys_used_last(store: WatchedKeys, time: Time) -> None:
    keyring = Keyring(store, PEPPER, cache_size=2, clock=time.clock, now=time.now)
    first, second, third = (keyring.mint("ward", f"key {n}")[1].reveal() for n in range(3))
    for text in (first, second, first, third):  # third pushes out second
        await keyring.identify(text)
    assert store.lookups == 3
    await keyring.identify(first)
    assert store.lookups == 3
    await keyring.identify(second)
    assert store.lookups == 4


async def test_requests_with_the_same_key_share_one_lookup(keyring: Keyring, store: WatchedKeys) -> None:
    _, secret = keyring.mint("ward", "ci-bot")
    store.open.clear()
    requests = [asyncio.create_task(keyring.identify(secret.reveal())) for _ in range(50)]
    await asyncio.sleep(0)  # all wait now
    requests[0].cancel()  # the first client leaves; the others get their answer
    store.open.set()
    answers = await asyncio.gather(*requests, return_exceptions=True)
    assert store.lookups == 1
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] + [Caller] * 49


async def test_a_known_key_keeps_working_while_the_store_is_away_for_stale_seconds(
    store: WatchedKeys, time: Time
) -> None:
    stale: list[float] = []
    keyring = Keyring(store, PEPPER, on_stale=lambda: stale.append(time.seconds), clock=time.clock, now=time.now)
    _, secret = keyring.mint("ward", "ci-bot")
    await keyring.identify(secret.reveal())
    store.away = True
    for time.seconds in (1, 100, 300):
        await keyring.identify(secret.reveal())
    assert stale == [100, 300]
    time.seconds = 301
    with pytest.raises(StoreUnavailable):
        await keyring.identify(secret.reveal())


async def test_an_expired_or_revoked_key_stays_refused_while_the_store_is_away(
    keyring: Keyring, store: WatchedKeys, time: Time
) -> None:
    expiring = keyring.mint("ward", "old", expires_at=NOON + timedelta(seconds=50))[1].reveal()
    await keyring.identify(expiring)
    store.away, time.seconds = True, 50
    with pytest.raises(InvalidKey):
        await keyring.identify(expiring)


async def test_an_unknown_key_gets_503_and_not_401_while_the_store_is_away(
    keyring: Keyring, store: WatchedKeys
) -> None:
    store.away = True
    with pytest.raises(StoreUnavailable) as refusal:
        await keyring.identify(VALID)
    assert (refusal.value.status, refusal.value.retry_after) == (503, 2)


async def test_while_the_store_is_away_one_request_per_cache_seconds_asks_it(
    keyring: Keyring, store: WatchedKeys, time: Time
) -> None:
    store.away = True
    for time.seconds in (0, 0.5, 1.0, 1.9, 2.0, 2.1):
        with pytest.raises(StoreUnavailable):
            await keyring.identify(new_key_text().reveal())
    assert store.lookups == 2
    store.away, time.seconds = False, 4.0
    with pytest.raises(InvalidKey):
        await keyring.identify(VALID)


async def test_a_store_that_hangs_is_away_and_only_one_request_waits_for_it(store: WatchedKeys, time: Time) -> None:
    keyring = Keyring(store, PEPPER, lookup_seconds=0.5, clock=time.clock, now=time.now)
    _, secret = keyring.mint("ward", "ci-bot")
    await keyring.identify(secret.reveal())
    store.open.clear()
    time.seconds = 10
    assert (await keyring.identify(secret.reveal())).tenant == "ward"
    lookups = store.lookups
    assert (await keyring.identify(secret.reveal())).tenant == "ward"
    assert store.lookups == lookups
    store.open.set()


async def test_an_adopted_key_works_at_once_and_adopting_it_again_changes_nothing(keyring: Keyring) -> None:
    with pytest.raises(InvalidKey):
        await keyring.identify(VALID)  # now cached as unknown
    key = keyring.adopt("ward", "demo", Secret(VALID))
    assert (await keyring.identify(VALID)).key_name == "demo"
    assert keyring.adopt("other", "other", Secret(VALID)) == key
    assert keyring.list() == [key]


def test_two_processes_that_adopt_the_same_key_at_once_get_the_same_key() -> None:
    class BothLookFirst(MemoryKeys):
        both_looked = threading.Barrier(2, timeout=5)

        def find(self, digest: KeyDigest) -> ApiKey | None:
            key = super().find(digest)
            if key is None:
                self.both_looked.wait()
            return key

    keyring = Keyring(BothLookFirst(), PEPPER)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(lambda name: keyring.adopt("ward", name, Secret(VALID)), ["one", "two"])
    assert first == second == keyring.list()[0]


def test_a_text_with_a_false_checksum_is_not_adopted_and_not_quoted(keyring: Keyring) -> None:
    body = VALID[:-6]
    false = body + checksum(body + "x")
    with pytest.raises(InvalidRequest) as refusal:
        keyring.adopt("ward", "demo", Secret(false))
    assert body[12:] not in str(refusal.value)


def test_a_third_live_key_of_an_owner_is_refused_and_says_what_to_do(keyring: Keyring) -> None:
    for _ in range(2):
        keyring.mint("ward", "ci-bot")
    with pytest.raises(TooManyKeys, match=r"Revoke.*rotate"):
        keyring.mint("ward", "ci-bot")
    with pytest.raises(TooManyKeys):
        keyring.adopt("ward", "ci-bot", new_key_text())
    keyring.mint("ward", "portal")


async def test_a_rotated_key_goes_on_for_its_grace_beside_its_successor(keyring: Keyring, time: Time) -> None:
    old, before = keyring.mint("ward", "ci-bot")
    await keyring.identify(before.reveal())
    new, after = keyring.rotate(old.prefix, timedelta(seconds=60))
    assert new.id != old.id
    for time.seconds in (0, 59.9):
        assert (await keyring.identify(before.reveal())).key_id == old.id
        assert (await keyring.identify(after.reveal())).key_id == new.id
    time.seconds = 60
    with pytest.raises(InvalidKey):
        await keyring.identify(before.reveal())
    await keyring.identify(after.reveal())


async def test_a_key_rotated_without_grace_ends_here_at_once(keyring: Keyring) -> None:
    _, before = keyring.mint("ward", "ci-bot")
    await keyring.identify(before.reveal())
    keyring.rotate(before.reveal(), timedelta(0))  # a leaked key is at hand as its text
    with pytest.raises(InvalidKey):
        await keyring.identify(before.reveal())


async def test_a_successor_has_the_same_rights_and_no_more(keyring: Keyring) -> None:
    old, _ = keyring.mint(
        "ward",
        "ci-bot",
        roles=frozenset({"auditor"}),
        deployments=frozenset({"notes"}),
        networks=(ip_network("10.0.0.0/8"),),
    )
    new, secret = keyring.rotate(old.id, timedelta(hours=1))
    changed = {"id": new.id, "prefix": new.prefix, "digest": new.digest}
    assert new == replace(old, **changed)
    assert (await keyring.identify(secret.reveal())).deployments == {"notes"}


DAY = timedelta(days=1)
NEVER = datetime(9999, 12, 31, tzinfo=UTC)


@pytest.mark.parametrize(
    ("expires_at", "successors"),
    [(None, None), (NOON + 90 * DAY, NOON + 150 * DAY), (NEVER, NEVER)],
    ids=["lasting", "for 90 days", "far too long to add up"],
)
def test_a_successor_lasts_as_long_from_its_start_as_the_old_key_did(
    keyring: Keyring, time: Time, expires_at: datetime | None, successors: datetime | None
) -> None:
    old, _ = keyring.mint("ward", "ci-bot", expires_at)
    time.seconds = (60 * DAY).total_seconds()
    assert keyring.rotate(old.id, DAY)[0].expires_at == successors


@pytest.mark.parametrize("grace", [timedelta(seconds=-1), timedelta(days=366), timedelta.max])
def test_a_grace_that_means_nothing_is_refused(keyring: Keyring, grace: timedelta) -> None:
    old, _ = keyring.mint("ward", "ci-bot")
    with pytest.raises(InvalidRequest, match="grace"):
        keyring.rotate(old.id, grace)


def test_an_ended_or_unknown_key_is_not_rotated(keyring: Keyring) -> None:
    key, _ = keyring.mint("ward", "ci-bot")
    keyring.revoke(key.id)
    with pytest.raises(KeyEnded):
        keyring.rotate(key.id, DAY)
    with pytest.raises(UnknownKey):
        keyring.rotate(VALID, DAY)
    assert len(keyring.list()) == 1


@pytest.mark.parametrize(
    "name", ["", "nobody", "x" * 8000, "ab12cd3\x00", "csk_ab12cd34_", pytest.param(VALID[:-1], id="a key that is cut")]
)
def test_what_is_no_id_prefix_or_key_never_reaches_the_store(name: str) -> None:
    class NothingAsked(MemoryKeys):
        def get(self, id_or_prefix: str) -> ApiKey:
            assert id_or_prefix == ""
            return super().get(id_or_prefix)

    with pytest.raises(UnknownKey):
        Keyring(NothingAsked(), PEPPER).get(name)
