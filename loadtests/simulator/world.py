"""The fleet under load: clients that come, wait, leave and ask again, and the gateway that finds them a replica."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from loadtests.durations import Seconds
from loadtests.simulator.clock import Clock
from loadtests.simulator.controller import Controller, Hardware, MetricPath
from loadtests.simulator.policies import Policy
from loadtests.simulator.replica import Replica
from loadtests.simulator.request import Request


@dataclass(frozen=True)
class Clients:
    """They leave when no token has come after their patience, and ask again `pause` later, `tries` times in all."""

    pause: Seconds = 5.0
    tries: int = 3


@dataclass(frozen=True)
class Gateway:
    """door: what it adds to a first token.

    hold: how long a request waits for a first replica, at most `held` of them; then it is refused, with Retry-After.
    """

    door: Seconds = 0.004
    hold: Seconds = 60.0
    held: int = 1000


@dataclass(frozen=True)
class Setup:
    """Everything but policy, load and chance."""

    hardware: Hardware
    metrics: MetricPath
    gateway: Gateway = Gateway()
    clients: Clients = Clients()


@dataclass(frozen=True)
class Run:
    """What happened. requests: every one once, as its last try left it. changes: (when, replicas up, target)."""

    requests: Sequence[Request]
    replicas: Sequence[Replica] = field(repr=False)
    changes: Sequence[tuple[float, int, int]] = field(repr=False)
    span: float

    @property
    def replica_seconds(self) -> float:
        """From being asked for to gone: starting, idle and draining too. Until the last request came."""
        ends = [self.span if r.stopped is None else min(self.span, r.stopped) for r in self.replicas]
        return sum(max(0.0, end - replica.asked) for end, replica in zip(ends, self.replicas, strict=True))


def simulated(setup: Setup, policy: Policy, requests: Sequence[Request], rng: Random) -> Run:
    """One run. Equal arguments, the rng's state among them, give equal runs."""
    clock = Clock()
    world = _World(setup, policy, clock, rng, len(requests))
    world.expect(iter(requests))
    clock.run()
    return Run(world.last, world.controller.replicas, world.controller.changes, requests[-1].at)


class _World:
    def __init__(self, setup: Setup, policy: Policy, clock: Clock, rng: Random, requests: int) -> None:
        self._gateway = setup.gateway
        self._clients = setup.clients
        self._clock = clock
        self._rng = rng
        self._held: deque[Request] = deque()
        self.last: list[Request] = [None] * requests  # type: ignore[list-item]  # each is sent
        self.controller = Controller(
            setup.hardware, setup.metrics, policy, clock, rng, held=lambda: len(self._held), came_up=self._release
        )

    def expect(self, coming: Iterator[Request]) -> None:
        """The next one, who is followed by the others."""
        request = next(coming, None)
        if request is not None:
            self._clock.at(request.at + self._gateway.door, self._come, request, coming)

    def _come(self, request: Request, coming: Iterator[Request]) -> None:
        self.expect(coming)
        self.send(request)

    def send(self, request: Request) -> None:
        request.sent = self._clock.now
        self.last[request.number] = request
        if self.controller.up:
            self._forward(request)
        elif len(self._held) < self._gateway.held:
            self._held.append(request)
            self._clock.at(self._clock.now + min(self._gateway.hold, request.patience), self._refuse, request)
        else:
            self._ask_again(request)

    def _release(self) -> None:
        while self._held:
            self._forward(self._held.popleft())

    def _refuse(self, request: Request) -> None:
        if request in self._held:
            self._held.remove(request)
            self._ask_again(request)

    def _forward(self, request: Request) -> None:
        replica = self._choice()
        replica.take(request)
        if request.patience < float("inf"):
            self._clock.at(self._clock.now + request.patience, self._leave, request, replica)

    def _choice(self) -> Replica:
        """The less loaded of two by chance."""
        up = self.controller.up
        if len(up) == 1:
            return up[0]
        first = int(self._rng.random() * len(up))
        second = int(self._rng.random() * (len(up) - 1))
        one, other = up[first], up[second + (second >= first)]
        return one if one.engine.in_flight <= other.engine.in_flight else other

    def _leave(self, request: Request, replica: Replica) -> None:
        if request.first is None:
            replica.engine.leave(request)
            self._ask_again(request)

    def _ask_again(self, request: Request) -> None:
        if request.tries < self._clients.tries:
            self._clock.at(self._clock.now + self._clients.pause, self.send, request.again())
