"""Drives one worker's share of a plan: one scheduler, absolute times, a greenlet for each request.

An open loop never waits for an answer. A request that the client cannot send is counted as dropped, one that it sends
late carries its lateness in every latency. Gives its rows and tallies away in pieces, so that a run can be watched.
"""

import gc
import heapq
import time
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

import gevent
from gevent.pool import Group

from loadtests.arrivals import SETTLING, Arrival, Closed, pause, share_of
from loadtests.client import Caller, Exchange, clock
from loadtests.jobs import BatchJob
from loadtests.metrics import Histogram, Kind, Row, Tallies
from loadtests.notes import Notes
from loadtests.plan import Plan
from loadtests.scenario import Flow
from loadtests.sse import Reading
from loadtests.workloads import Ask, Batch, Script

LOOP_CHECK_S = 0.05
GRAIN_S = 0.001
"""An event loop's timers are whole milliseconds, rounded up: the last one is spent in turns of the loop."""


class Driver:
    """index of workers: which share of every schedule is this worker's. begin: the run's zero, in Unix time."""

    def __init__(self, plan: Plan, keys: dict[str, str], index: int, workers: int, begin: float) -> None:
        self.plan = plan
        self.scenario = plan.resolved()
        self.window = self.scenario.window
        self._now = clock(time.perf_counter() + begin - time.time())
        self._caller = Caller(plan.server, keys, plan.most_in_flight, self._now)
        self._notes = Notes(plan.seed, plan.server.tokens_per_word)
        self._share = (index, workers)
        self._sessions = Group()
        self._open: dict[int, tuple[Flow, Arrival, str, float]] = {}
        self._tickets = iter(range(10**12))
        self._tallies = Tallies()
        self._rows: list[Row] = []
        self._loop_lag = Histogram()
        self._jobs = 0
        self._cpu = [time.process_time()] * 2  # at the window's begin and end
        self.over = False
        self.failure = ""

    @property
    def in_flight(self) -> int:
        return len(self._open)

    def run(self) -> None:
        """Return when all that was offered in the measured window has ended, or `drain` is over."""
        gc.collect()
        gc.freeze()  # what is here stays: collections then look at the run's own garbage only
        watch = gevent.spawn(self._watch)
        try:
            self._schedule()
        except Exception as error:  # the master is told, and ends the run
            self.failure, self.over = repr(error), True
        while self._measuring and self._now() < self.window.until:
            gevent.sleep(0.05)
        self.over = True
        self._sessions.kill(timeout=5)
        for flow, arrival, label, due in list(self._open.values()):
            self._record(flow, arrival, label, due, None, "unfinished")
        self._open.clear()
        watch.kill()
        self._caller.close()

    @property
    def _measuring(self) -> bool:
        """Whether a request of the measured window may still come or is still open."""
        if self.over:
            return False
        return (
            self._now() < self.window.end
            or self._jobs > 0
            or any(due in self.window for _, _, _, due in self._open.values())
        )

    def _schedule(self) -> None:
        for arrival, flow in heapq.merge(*(self._arrivals(flow) for flow in self.scenario.flows), key=_when):
            script, ask, body = self._prepared(flow, arrival)
            while (wait := arrival.at - self._now()) > 0:
                if not self._measuring:
                    return
                # After the window short sleeps, to end as soon as the last answer is there.
                gevent.sleep(max(0.0, (wait if arrival.at < self.window.end else min(wait, 0.1)) - GRAIN_S))
            if not self._measuring:
                return
            self._sessions.spawn(self._session, flow, arrival, script, ask, body).link_exception(self._fail)
            gevent.sleep(0)  # else, once behind, nothing would be sent until the schedule had caught up

    def _fail(self, session: gevent.Greenlet) -> None:
        self.failure = self.failure or repr(session.exception)
        self.over = True

    def _arrivals(self, flow: Flow) -> Iterator[tuple[Arrival, Flow]]:
        schedule = flow.arrivals.arrivals(self.window, Random(f"{self.plan.seed}/{flow.name}"))
        return ((arrival, flow) for arrival in share_of(schedule, *self._share))

    def _prepared(self, flow: Flow, arrival: Arrival) -> tuple[Script, Ask | None, bytes]:
        rng = Random(f"{self.plan.seed}/{flow.name}/{arrival.number}")
        script = flow.workload.script(self._notes, rng, arrival)
        if isinstance(flow.workload, Batch):
            return script, None, b""
        ask = next(script)
        return script, ask, self._caller.body(flow, ask)

    def _session(self, flow: Flow, arrival: Arrival, script: Script, ask: Ask | None, body: bytes) -> None:
        """One arrival to its end: a request, a conversation, a batch, or a user who comes back."""
        if ask is None:
            self._jobs += 1
            for row in BatchJob(self._caller, self.plan.server, flow, self._now).rows(
                list(script), arrival.at, self.window.until
            ):
                self._count(row, Reading())
            self._jobs -= 1
            return
        rng = Random(f"{self.plan.seed}/{flow.name}/{arrival.number}/pauses")
        think = flow.arrivals.think if isinstance(flow.arrivals, Closed) else 2.0
        due, round_number = arrival.at, 0
        while not self.over:
            text = self._ask(flow, arrival, ask, body, due)
            due = self._now() + pause(think, rng)
            try:
                ask = script.send(text)
                body = self._caller.body(flow, ask)
            except StopIteration:
                if not isinstance(flow.arrivals, Closed):
                    return
                round_number += 1
                again = Arrival(arrival.number + 1_000_000 * round_number, due, arrival.stage)
                script, next_ask, body = self._prepared(flow, again)
                assert next_ask is not None
                ask = next_ask
            gevent.sleep(max(0.0, due - self._now()))

    def _ask(self, flow: Flow, arrival: Arrival, ask: Ask, body: bytes, due: float) -> str:
        if len(self._open) >= self.plan.most_in_flight:
            self._record(flow, arrival, ask.label, due, None, "dropped")
            return ""
        ticket = next(self._tickets)
        self._open[ticket] = (flow, arrival, ask.label, due)
        exchange = self._caller.ask(flow, ask, body)
        del self._open[ticket]
        self._record(flow, arrival, ask.label, due, exchange)
        return exchange.reading.text

    def _record(
        self, flow: Flow, arrival: Arrival, label: str, due: float, exchange: Exchange | None, lost: Kind = "dropped"
    ) -> None:
        """exchange: what became of it; None when nothing did, and then `lost` says why."""
        reading = exchange.reading if exchange else Reading()
        row = Row(
            flow=flow.name, label=label, stage=arrival.stage, tenant=flow.key, number=arrival.number,
            kind=exchange.kind if exchange else lost, good=False,
            measured=due in self.window and arrival.stage != SETTLING,
            status=exchange.status if exchange else 0, attempts=exchange.attempts if exchange else 0,
            intended=due, sent=exchange.sent if exchange else None, first=reading.first,
            end=exchange.end if exchange else self._now(), prompt_tokens=reading.prompt_tokens,
            answer_tokens=reading.answer_tokens, frames=reading.frames, stall=max(reading.gaps, default=0.0),
        )  # fmt: skip
        good = flow.objective.met_by(row.kind, row.ttft, row.tpot, row.e2e)
        self._count(replace(row, good=good), reading)

    def _count(self, row: Row, reading: Reading) -> None:
        self._tallies.add(row, reading.gaps if row.kind in ("ok", "left") else ())
        self._rows.append(row)

    def _watch(self) -> None:
        """How late this process's own event loop is, and how much CPU it takes, in the measured window."""
        while True:
            before = self._now()
            gevent.sleep(LOOP_CHECK_S)
            now = self._now()
            if now in self.window:
                self._loop_lag.add(max(0.0, now - before - LOOP_CHECK_S))
            if now < self.window.start:
                self._cpu[0] = time.process_time()
            if now < self.window.end:
                self._cpu[1] = time.process_time()

    def take(self) -> dict[str, Any]:
        """What was measured since the last call, as plain values for a message."""
        tallies, self._tallies = self._tallies, Tallies()
        rows, self._rows = self._rows, []
        return {
            "tallies": tallies.packed(),
            "rows": [[getattr(row, name) for name in Row.__slots__] for row in rows],
            "failure": self.failure,
            "in_flight": len(self._open),
            "loop_lag": self._loop_lag.packed(),
            "cpu": (self._cpu[1] - self._cpu[0]) / self.window.seconds,
        }


def _when(item: tuple[Arrival, Flow]) -> float:
    return item[0].at
