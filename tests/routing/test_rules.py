"""The rules as properties: bounded imbalance, caches found again, little movement, tenants apart."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import pytest

from serving.routing.known import Known
from serving.routing.prefix import BLOCK, Prefix
from serving.routing.rules import PowerOfTwo, PrefixAffinity, RoundRobin, Rule, distances_of

REPLICAS = [f"replica-{number}" for number in range(5)]


def home_of(beginning: bytes, replicas: Sequence[str]) -> str:
    distances = distances_of(beginning, replicas)
    return min(distances, key=distances.__getitem__)


def affinity(seed: int = 1) -> PrefixAffinity:
    return PrefixAffinity(PowerOfTwo(random.Random(seed)))


def prefix(*words: str, size: int | None = None) -> Prefix:
    """A block for each word; the same first words, the same first blocks."""
    blocks = tuple("/".join(words[:end]).encode() for end in range(1, len(words) + 1))
    return Prefix(blocks, words[0].encode(), size or len(blocks) * BLOCK)


def conversation(name: str, turn: int) -> Prefix:
    return prefix(*[f"{name} {number}" for number in range(8 + 2 * turn)])


@pytest.mark.parametrize("rule", [affinity(), PowerOfTwo(random.Random(1)), RoundRobin()])
def test_only_a_replica_that_is_there_is_chosen(rule: Rule) -> None:
    rng = random.Random(2)
    for number in range(500):
        there = rng.sample(REPLICAS, rng.randint(1, 5))
        load = {replica: rng.randrange(10_000) for replica in REPLICAS}
        assert rule.choose(conversation(f"c{number % 20}", number % 4), there, load).replica in there


def test_a_conversation_comes_back_to_the_replica_that_has_read_it() -> None:
    rule = affinity()
    first = [rule.choose(conversation(f"c{number}", 0), REPLICAS, {}) for number in range(200)]
    later = [rule.choose(conversation(f"c{number}", 1), REPLICAS, {}) for number in range(200)]
    assert [one.replica for one in first] == [one.replica for one in later]
    assert {one.missing for one in later} == {2 * BLOCK}
    assert {one.why for one in later} == {"known"}


def test_gateways_agree_on_a_home_without_talking() -> None:
    one, other = affinity(1), affinity(2)
    for number in range(200):
        chosen = one.choose(conversation(f"c{number}", 0), REPLICAS, {})
        assert chosen.why == "home"
        assert other.choose(conversation(f"c{number}", 1), REPLICAS, {}).replica == chosen.replica


def test_homes_are_spread_evenly() -> None:
    homes = Counter(home_of(f"c{number}".encode(), REPLICAS) for number in range(5000))
    assert all(900 < count < 1100 for count in homes.values())


def test_a_replica_is_chosen_over_a_less_busy_one_only_for_what_its_cache_saves() -> None:
    rule, rng = affinity(), random.Random(3)
    for number in range(2000):
        load = {replica: rng.randrange(20 * BLOCK) for replica in REPLICAS}
        asked = conversation(f"c{number % 50}", number % 5)
        chosen = rule.choose(asked, REPLICAS, load)
        assert load[chosen.replica] - min(load.values()) <= asked.size


@pytest.mark.parametrize("share", ["one record", "one instruction"])
def test_a_beginning_that_everybody_has_does_not_drown_its_replica(share: str) -> None:
    """All requests stay: the imbalance is what one prompt is worth, however many come."""
    rule, load = affinity(), defaultdict(int, dict.fromkeys(REPLICAS, 0))
    for number in range(1000):
        asked = conversation("same", 0) if share == "one record" else prefix("a", "b", "c", f"question {number}")
        chosen = rule.choose(asked, REPLICAS, load)
        load[chosen.replica] += chosen.missing + BLOCK
        assert max(load.values()) - min(load.values()) <= asked.size + 2 * BLOCK + BLOCK


@pytest.mark.parametrize("change", ["comes", "goes"])
def test_only_the_homes_of_a_replica_that_comes_or_goes_move(change: str) -> None:
    before, after = (REPLICAS[:4], REPLICAS) if change == "comes" else (REPLICAS, REPLICAS[:4])
    names = [f"c{number}".encode() for number in range(1000)]
    moved = [(home_of(name, before), home_of(name, after)) for name in names]
    moved = [(was, becomes) for was, becomes in moved if was != becomes]
    assert 100 < len(moved) < 300
    assert all((becomes if change == "comes" else was) == REPLICAS[4] for was, becomes in moved)


def test_when_a_replica_goes_its_conversations_find_one_new_place() -> None:
    rule = affinity()
    for number in range(100):
        rule.choose(conversation(f"c{number}", 0), REPLICAS, {})
    second = [rule.choose(conversation(f"c{number}", 1), REPLICAS[:4], {}).replica for number in range(100)]
    third = [rule.choose(conversation(f"c{number}", 2), REPLICAS[:4], {}) for number in range(100)]
    assert second == [one.replica for one in third]
    assert {one.missing for one in third} == {2 * BLOCK}


def test_without_a_beginning_it_is_power_of_two() -> None:
    chosen = [affinity(7).choose(Prefix(size=100), REPLICAS, {"replica-1": 9}) for _ in range(3)]
    plain = [PowerOfTwo(random.Random(7)).choose(Prefix(size=100), REPLICAS, {"replica-1": 9}) for _ in range(3)]
    assert chosen == plain


def test_power_of_two_never_takes_the_busiest_and_leaves_none_out() -> None:
    rule, load = PowerOfTwo(random.Random(1)), {name: number for number, name in enumerate(REPLICAS)}
    chosen = Counter(rule.choose(Prefix(), REPLICAS, load).replica for _ in range(500))
    assert chosen.keys() == set(REPLICAS[:4])
    assert chosen["replica-0"] > chosen["replica-3"]


def test_round_robin_goes_round() -> None:
    rule = RoundRobin()
    assert {rule.choose(Prefix(), REPLICAS, {}).replica for _ in range(5)} == set(REPLICAS)


def test_what_is_known_is_bounded_and_forgets_the_longest_unused_first() -> None:
    known = Known(most=30)
    for name in ("old", "used", "new"):
        known.learn(conversation(name, 0).blocks, "a")
        known.learn(conversation("used", 0).blocks, "a")
    known.learn(conversation("newest", 0).blocks, "b")
    assert len(known) == 30
    assert known.of(conversation("old", 0).blocks, ["a"]).get("a", 0) < 8 * BLOCK
    assert known.of(conversation("used", 0).blocks, ["a"]) == {"a": 8 * BLOCK}
    assert known.of(conversation("newest", 0).blocks, ["a", "b"]) == {"b": 8 * BLOCK}


def test_of_a_beginning_that_is_forgotten_the_end_goes_first() -> None:
    known = Known(most=5)
    known.learn(conversation("long", 0).blocks, "a")
    assert known.of(conversation("long", 0).blocks, ["a"]) == {"a": 5 * BLOCK}


def cached_share(rules: Sequence[Rule], replicas: Sequence[str]) -> float:
    """Of all bytes, those that the replica had read already: conversations of six turns, at any gateway."""
    rng, read, size, held = random.Random(4), 0, 0, defaultdict[str, set[bytes]](set)
    turns = [(f"c{number}", turn) for turn in range(6) for number in range(43)]
    load: dict[str, int] = {}
    for name, turn in turns:
        asked = conversation(name, turn)
        chosen = rng.choice(rules).choose(asked, replicas, load).replica
        load = {replica: rng.choice((0, 0, BLOCK, 2 * BLOCK)) for replica in replicas}
        read += sum(BLOCK for block in asked.blocks if block not in held[chosen])
        held[chosen].update(asked.blocks)
        size += asked.size
    return 1 - read / size


@pytest.mark.parametrize("gateways", [1, 3])
def test_affinity_keeps_caches_warm_where_others_do_not(gateways: int) -> None:
    def share(rule: Callable[[], Rule]) -> float:
        return cached_share([rule() for _ in range(gateways)], REPLICAS)

    most = 1 - (8 + 5 * 2) / sum(8 + 2 * turn for turn in range(6))  # each block is read once
    assert share(affinity) > most - 0.03
    assert share(lambda: PowerOfTwo(random.Random(5))) < most - 0.2
    assert share(RoundRobin) < most - 0.2
