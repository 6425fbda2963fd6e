"""The simulated engine: its steps take what they should, and nothing is lost on the way."""

import math
from random import Random

import pytest

from loadtests.simulator.clock import Clock
from loadtests.simulator.engine import BatchingEngine, Limits, Speed
from loadtests.simulator.replica import Engine, Replica
from loadtests.simulator.request import Request
from loadtests.simulator.slots import Echo, SlotEngine

SPEED = Speed(base=0.03, prefill=0.0001, decode=0.0003, kv=1e-7)


def served(engine: Engine, requests: list[Request]) -> list[Request]:
    """All of them, by one replica."""
    clock = Clock()
    replica = Replica(engine, clock)
    for request in requests:
        clock.at(request.at, replica.take, request)
    clock.run()
    return requests


class StepByStep(BatchingEngine):
    """Takes no two steps together."""

    def begin(self, now: float) -> float | None:
        super().begin(now)
        if not self._chunks and not self._decoding:
            return None
        self._steps = 1
        return now + self._after(1)


def a_crowd(count: int, rate: float, seed: int = 1) -> list[Request]:
    rng, at, requests = Random(seed), 0.0, []
    for number in range(count):
        at += rng.expovariate(rate)
        requests.append(Request(number, at, rng.randint(1, 4000), rng.randint(1, 300)))
    return requests


def test_one_request_takes_a_step_for_its_prompt_and_one_for_each_further_token() -> None:
    [request] = served(BatchingEngine(SPEED, Limits()), [Request(0, 0.0, prompt=1000, answer=5)])
    assert request.first == pytest.approx(0.1 + 1e-7 * 1000)  # the weights are read beside the prompt's 1000 tokens
    later = sum(0.03 + 0.0003 + 1e-7 * (1000 + i) for i in range(4))
    assert request.end == pytest.approx(0.1 + 1e-7 * 1000 + later)


def test_a_long_prompt_is_read_in_chunks_of_the_budget() -> None:
    [request] = served(BatchingEngine(SPEED, Limits(budget=2048)), [Request(0, 0.0, prompt=5000, answer=1)])
    kv = 1e-7 * 5000  # its blocks are held from the first chunk on
    assert request.first == request.end == pytest.approx(0.2048 + 0.2048 + 0.0904 + 3 * kv)


def test_a_prompt_that_is_read_delays_the_tokens_of_the_others_by_that_step() -> None:
    first, _ = served(
        BatchingEngine(SPEED, Limits()),
        [Request(0, 0.0, prompt=10, answer=3), Request(1, 0.031, prompt=2000, answer=1)],
    )
    assert first.first == pytest.approx(0.03 + 1e-6)
    assert first.end == pytest.approx(0.0604 + 0.2, rel=0.01)  # its second token alone, the third beside the prompt


def test_no_more_run_than_there_is_room_for_in_the_batch() -> None:
    requests = [Request(number, 0.0, prompt=10, answer=50) for number in range(4)]
    served(BatchingEngine(SPEED, Limits(running=2)), requests)
    step = 0.03 + 0.0003
    assert requests[2].first == pytest.approx(requests[0].end + step, rel=0.001)
    assert requests[3].first == pytest.approx(requests[1].end + step, rel=0.001)


@pytest.mark.parametrize("kv_tokens", [400_000, 9_000])
def test_steps_that_are_taken_together_end_when_single_ones_would(kv_tokens: int) -> None:
    limits = Limits(running=32, kv_tokens=kv_tokens)
    together, apart = a_crowd(300, 4.0), a_crowd(300, 4.0)
    served(BatchingEngine(SPEED, limits), together)
    served(StepByStep(SPEED, limits), apart)
    assert [one.end for one in together] == pytest.approx([one.end for one in apart])


def test_a_full_cache_sends_the_latest_back_and_all_are_answered_whole() -> None:
    engine = BatchingEngine(SPEED, Limits(kv_tokens=6_000))
    requests = served(engine, a_crowd(200, 3.0))
    assert engine.preempted > 10
    assert all(request.end is not None for request in requests)
    assert engine.made_by(math.inf) == sum(request.answer for request in requests)
    assert engine.read >= sum(request.prompt for request in requests)
    assert (engine.kv_tokens, engine.backlog, engine.in_flight) == (0, 0, 0)


def test_who_leaves_while_waiting_or_being_read_costs_nothing_more() -> None:
    clock, engine = Clock(), BatchingEngine(SPEED, Limits(budget=1000, running=2))
    replica = Replica(engine, clock)
    requests = [Request(number, 0.0, prompt=3000, answer=10) for number in range(4)]
    for request in requests:
        clock.at(0.0, replica.take, request)
    clock.at(0.15, engine.leave, requests[0])  # in its second chunk
    clock.at(0.15, engine.leave, requests[3])  # in the queue
    clock.run()
    assert [request.end is not None for request in requests] == [False, True, True, False]
    assert (engine.kv_tokens, engine.backlog, engine.in_flight) == (0, 0, 0)


@pytest.mark.parametrize("slots", [1, 4])
def test_waiting_for_a_slot_is_that_of_an_m_d_c_queue(slots: int) -> None:
    load, service = 0.8, 1.0
    engine = SlotEngine(Echo(slots, prefill_rate=math.inf, first_token=0.0, inter_token=service / 10))
    rng, at, requests = Random(3), 0.0, []
    for number in range(60_000):
        at += rng.expovariate(load * slots / service)
        requests.append(Request(number, at, prompt=1, answer=11))
    served(engine, requests)
    waited = sum(request.first - request.at for request in requests) / len(requests)
    assert waited == pytest.approx(expected_wait(load, slots, service), rel=0.07)


def expected_wait(load: float, servers: int, service: float) -> float:
    """Erlang's C for M/M/c, and Cosmetatos' correction for service that always takes as long. Exact for one server."""
    offered = load * servers
    term = offered**servers / math.factorial(servers) / (1 - load)
    busy = term / (sum(offered**n / math.factorial(n) for n in range(servers)) + term)
    random_service = busy * service / (servers * (1 - load))
    more = (1 - load) * (servers - 1) * (math.sqrt(4 + 5 * servers) - 2) / (16 * load * servers)
    return random_service * (1 + more) / 2
