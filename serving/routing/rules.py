"""The rules by which a replica is chosen: prefix affinity, power of two, round robin.

Prefix affinity weighs two things in one unit, bytes of prompt that have to be read: what a replica still has to do, and
what it would have to read of this request because its cache does not hold it. The least sum wins. So a replica is never
chosen over a less busy one unless its cache saves more than the difference: the imbalance is bounded by the prompt
itself, and a prefix that everybody shares ends up on all replicas instead of drowning one.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from serving.routing.known import Known
from serving.routing.prefix import Prefix

Why = Literal["known", "home", "load"]
"""known: its cache holds the beginning. home: where conversations that begin so are sent. load: it is less busy."""
_HOME = 0.5
"""Of a prompt, how much its home is taken to hold: another gateway may have sent the conversation's last turn there."""


@dataclass(frozen=True, slots=True)
class Choice:
    """missing: bytes of the prompt that the replica probably has to read."""

    replica: str
    missing: int
    why: Why


class Rule(Protocol):
    """One deployment's, in one gateway."""

    def choose(self, prefix: Prefix, replicas: Sequence[str], load: Mapping[str, int]) -> Choice:
        """One of these replicas, of which there is at least one; load: without those that have none."""
        ...


class RoundRobin:
    def __init__(self) -> None:
        self._next = 0

    def choose(self, prefix: Prefix, replicas: Sequence[str], load: Mapping[str, int]) -> Choice:
        self._next += 1
        return Choice(replicas[self._next % len(replicas)], prefix.size, "load")


class PowerOfTwo:
    """The less busy of two at random: nearly as even as the least busy of all, and gateways do not choose the same."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    def choose(self, prefix: Prefix, replicas: Sequence[str], load: Mapping[str, int]) -> Choice:
        two = self._rng.sample(replicas, min(2, len(replicas)))
        return Choice(min(two, key=lambda replica: load.get(replica, 0)), prefix.size, "load")


class PrefixAffinity:
    """Where the beginning is known, by cost; where there is none, as `otherwise` says."""

    def __init__(self, otherwise: Rule, known: Known | None = None) -> None:
        self._otherwise = otherwise
        self._known = known or Known()

    def choose(self, prefix: Prefix, replicas: Sequence[str], load: Mapping[str, int]) -> Choice:
        if not prefix.blocks:
            return self._otherwise.choose(prefix, replicas, load)
        known = self._known.of(prefix.blocks, replicas)
        distances = distances_of(prefix.home, replicas)
        home = min(replicas, key=distances.__getitem__)
        held = known | {home: max(known.get(home, 0), int(prefix.size * _HOME))}

        def cost(replica: str) -> tuple[int, bytes]:
            return load.get(replica, 0) + prefix.size - held.get(replica, 0), distances[replica]

        replica = min(replicas, key=cost)
        self._known.learn(prefix.blocks, replica)
        why: Why = "known" if known.get(replica) else "home" if replica == home else "load"
        return Choice(replica, prefix.size - known.get(replica, 0), why)


def distances_of(beginning: bytes, replicas: Sequence[str]) -> dict[str, bytes]:
    """How far each replica is from this beginning; all gateways take the nearest for its home, without talking
    (rendezvous hashing). When a replica comes or goes, only the beginnings move that it gets or had.
    """
    return {name: hashlib.blake2b(beginning + name.encode(), digest_size=8).digest() for name in replicas}
