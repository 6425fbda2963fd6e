"""Quotas counted in this process. Right for one gateway; several share theirs in Redis (redis.py)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from serving.tenants.limits import Subject
from serving.tenants.quotas import Claim, History, Lease, OnSettled, RateState, Unlimited
from serving.tenants.seeds import Seeds
from serving.tenants.verdicts import Held, refusal, tightest
from serving.tenants.windows import NEW, PERIODS, Ask, Counter, Kind, asks_of

_SWEPT_PER_SUBJECT = 2


class MemoryQuotas:
    """Belongs to one event loop. clock: seconds since the epoch, as limits per day and month are UTC's."""

    def __init__(
        self,
        history: History,
        *,
        clock: Callable[[], float] = time.time,
        on_settled: OnSettled = lambda settlement: None,
    ) -> None:
        self._clock = clock
        self._on_settled = on_settled
        self._seeds = Seeds(history)
        self._counters: OrderedDict[Subject, dict[Kind, Counter]] = OrderedDict()
        self._came = 0
        """Subjects that are new since the last sweep."""

    async def reserve(self, claim: Claim) -> Lease:
        asks = asks_of(claim)
        if not asks:
            return Unlimited()
        if self._came:
            self._sweep()
        await self._seed(asks)
        # From here on nothing is awaited, so no other claim comes between check and hold, and there is no lock.
        now = self._clock()
        counters = self._counters_of(asks)
        for ask, counter in zip(asks, counters, strict=True):
            if counter.used(now) + ask.amount > ask.limit:
                readings = [each.read(now, its) for its, each in zip(asks, counters, strict=True)]
                raise refusal(asks, readings, now)
        slots = [counter.hold(ask.amount) for ask, counter in zip(asks, counters, strict=True)]
        return Held(
            _left("requests_per_minute", asks, counters, now),
            _left("tokens_per_minute", asks, counters, now),
            partial(self._settle, asks, slots),
        )

    async def start(self) -> None: ...

    async def close(self) -> None:
        await self._seeds.close()

    async def _seed(self, asks: Sequence[Ask]) -> None:
        periods = [ask for ask in asks if ask.kind in PERIODS]
        if not periods:
            return
        now = self._clock()
        starts = [counter.unseeded(now) for counter in self._counters_of(periods)]
        needed = [(ask, start) for ask, start in zip(periods, starts, strict=True) if start is not None]
        if not needed:
            return
        answers = await self._seeds.spent([(ask.subject, start) for ask, start in needed])
        counters = self._counters_of([ask for ask, _ in needed])
        for counter, (_, start), spent in zip(counters, needed, answers, strict=True):
            if spent is not None:
                counter.seed(start, spent)

    def _settle(self, asks: Sequence[Ask], slots: Sequence[int], spent: int) -> None:
        now = self._clock()
        for ask, counter, slot in zip(asks, self._counters_of(asks), slots, strict=True):
            counter.settle(now, slot, ask.amount, spent)
        self._on_settled("settled")

    def _counters_of(self, asks: Sequence[Ask]) -> list[Counter]:
        """One for each ask; new where there is none. Not to be kept across an await: what is swept is forgotten."""
        found: list[Counter] = []
        subject, of_subject = None, {}
        for ask in asks:
            if ask.subject is not subject:
                subject, of_subject = ask.subject, self._of(ask.subject)
            counter = of_subject.get(ask.kind)
            if counter is None:
                counter = of_subject[ask.kind] = NEW[ask.kind]()
            found.append(counter)
        return found

    def _of(self, subject: Subject) -> dict[Kind, Counter]:
        counters = self._counters.get(subject)
        if counters is None:
            self._came += 1
            counters = self._counters[subject] = {}
        return counters

    def _sweep(self) -> None:
        """Drop what is idle of the subjects that were looked at longest ago: two for each one that came."""
        now = self._clock()
        for _ in range(min(_SWEPT_PER_SUBJECT * self._came, len(self._counters))):
            subject, counters = self._counters.popitem(last=False)
            busy = {kind: counter for kind, counter in counters.items() if not counter.idle(now)}
            if busy:
                self._counters[subject] = busy
        self._came = 0


def _left(kind: Kind, asks: Sequence[Ask], counters: Sequence[Counter], now: float) -> RateState | None:
    return tightest(_windows(kind, asks, counters, now), now)


def _windows(
    kind: Kind, asks: Sequence[Ask], counters: Sequence[Counter], now: float
) -> Iterator[tuple[int, int, int]]:
    for ask, counter in zip(asks, counters, strict=True):
        if ask.kind == kind:
            yield ask.limit, counter.used(now), counter.empty_at()
