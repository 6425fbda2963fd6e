"""Where one deployment's requests are: asks the rule, counts what is under way, leaves alone who has just broken."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from serving.engines.engine import BATCH, EngineRequest
from serving.routing.load import RUNNING, Load
from serving.routing.prefix import Prefix, prefix_of
from serving.routing.rules import Choice, Rule

_LEFT_ALONE = 3.0
"""Seconds for a replica that was not reached. It has nothing to do and would look better than all others."""


class Router:
    """One gateway's. on_choice: told of each, for a metric. clock: in seconds, never going back."""

    def __init__(
        self,
        rule: Rule,
        *,
        on_choice: Callable[[Choice], None] = lambda choice: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rule = rule
        self._on_choice = on_choice
        self._clock = clock
        self._load = Load()
        self._broken: dict[str, float] = {}

    def seat(self, request: EngineRequest | None, replicas: Mapping[str, str], avoid: Collection[str] = ()) -> Seat:
        """A place at one of these replicas, given as addresses by name; there is at least one.

        avoid: addresses that did not take this request; one of them only if there is no other.
        """
        names = self._best(replicas, avoid)
        line = request is not None and request.priority >= BATCH
        prefix = prefix_of(request) if request and len(replicas) > 1 else Prefix()
        choice = self._rule.choose(prefix, names, self._load.seen_by(line=line))
        self._on_choice(choice)
        return Seat(replicas[choice.replica], choice, self, line=line)

    def _best(self, replicas: Mapping[str, str], avoid: Collection[str]) -> list[str]:
        now = self._clock()
        self._broken = {name: until for name, until in self._broken.items() if until > now}
        names = sorted(replicas)  # so that every gateway sees the same order
        fresh = [name for name in names if replicas[name] not in avoid]
        return [name for name in fresh if name not in self._broken] or fresh or names

    def count(self, replica: str, amount: int, *, line: bool) -> None:
        self._load.add(replica, amount, line=line)

    def leave_alone(self, replica: str) -> None:
        self._broken[replica] = self._clock() + _LEFT_ALONE


class Seat:
    """A request's place at a replica; see engines.endpoints.Place."""

    def __init__(self, url: str, choice: Choice, router: Router, *, line: bool) -> None:
        self.url = url
        self._replica = choice.replica
        self._router = router
        self._line = line
        self._amount = 0
        self._weigh(choice.missing + RUNNING)

    def began(self) -> None:
        if self._amount:
            self._weigh(RUNNING)

    def broke(self) -> None:
        self._router.leave_alone(self._replica)

    def left(self) -> None:
        self._weigh(0)

    def _weigh(self, amount: int) -> None:
        self._router.count(self._replica, amount - self._amount, line=self._line)
        self._amount = amount
