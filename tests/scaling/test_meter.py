"""From an engine's counts to what it reports."""

from __future__ import annotations

from serving.scaling.meter import Meter
from serving.scaling.signals import NAMES, ReplicaSignals

IDLE = {"running": 0, "waiting": 0, "kv_cache": 0.0, "prefill_backlog": 0}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_rates_are_of_the_last_seconds() -> None:
    clock = Clock()
    meter = Meter(clock)
    for _ in range(60):
        clock.now += 1
        meter.decoded(50)
        meter.prefilled(200)
        signals = meter.read(**IDLE)
    assert (signals.decode_rate, signals.prefill_rate) == (50.0, 200.0)
    for _ in range(20):
        clock.now += 1
        signals = meter.read(**IDLE)
    assert (signals.decode_rate, signals.prefill_rate) == (0.0, 0.0)


def test_times_are_of_the_last_requests_and_none_without_any() -> None:
    clock = Clock()
    meter = Meter(clock)
    assert meter.read(**IDLE).ttft_p95 is None
    for seconds in range(100):
        meter.first_token(float(seconds))
        meter.per_token(seconds / 1000)
    signals = meter.read(**IDLE)
    assert (signals.ttft_p95, signals.tpot_p95) == (94.0, 0.094)
    clock.now += 31
    assert meter.read(**IDLE).ttft_p95 is None


def test_signals_are_the_same_after_the_way_through_ray() -> None:
    signals = ReplicaSignals(3, 2, 0.5, 700, 81.5, 900.0, 1.25, 0.03)
    assert ReplicaSignals.from_numbers(signals.to_numbers()) == signals
    assert signals.to_numbers().keys() == NAMES
    quiet = ReplicaSignals()
    assert "ttft_p95" not in quiet.to_numbers() and ReplicaSignals.from_numbers(quiet.to_numbers()) == quiet
    assert ReplicaSignals.from_numbers({"running": 1.0, "of a later version": 1.0}).running == 1
