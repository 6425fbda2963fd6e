"""A start, phase by phase; and when a replica was asked for, in what Serve's REST API says."""

from __future__ import annotations

from serving.deployments.starts import Stopwatch, _started_at


def test_each_phase_lasts_from_the_end_of_the_last_one() -> None:
    times = iter([103.0, 115.0, 160.0, 167.5])
    watch = Stopwatch(100.0, clock=lambda: next(times))
    for phase in ("node", "weights", "engine", "warm_up"):
        watch.passed(phase)  # type: ignore[arg-type]
    start = watch.start()
    assert start.phases == {"node": 3.0, "weights": 12.0, "engine": 45.0, "warm_up": 7.5}
    assert start.seconds == 67.5 and start.at == 167.5


def test_a_clock_that_was_set_back_makes_no_phase_negative() -> None:
    watch = Stopwatch(100.0, clock=lambda: 90.0)
    watch.passed("node")
    assert watch.start().phases == {"node": 0.0}


def test_a_replica_finds_itself_among_all() -> None:
    replicas = [{"replica_id": "a", "start_time_s": 1.0}, {"replica_id": "b", "start_time_s": 2.0}]
    details = {"applications": {"engine-notes": {"deployments": {"model": {"replicas": replicas}}}}}
    assert _started_at("b", details) == 2.0 and _started_at("c", details) is None
