"""The pace of lines beside interactive requests: learnt, bounded, and slow where nothing is known."""

from __future__ import annotations

import random

from serving.deployments.pace import Pace

ALONE = 0.1


def fed(pace: Pace, beside: float, *, rounds: int, alone: bool = True) -> Pace:
    """Rounds of requests that met a line and waited so long; if `alone`, as many others that met none."""
    for _ in range(20 * rounds):
        if alone:
            pace.waited(ALONE, alone=True)
        pace.waited(beside, alone=False)
    return pace


def test_it_grows_while_requests_do_not_notice() -> None:
    assert fed(Pace(2), beside=0.11, rounds=20).rate > 15


def test_it_shrinks_when_they_do_and_never_to_nothing() -> None:
    pace = fed(Pace(100), beside=0.2, rounds=5)
    assert pace.rate < 10
    assert fed(pace, beside=0.2, rounds=100).rate == 0.5


def test_it_has_a_ceiling() -> None:
    assert fed(Pace(2), beside=0.1, rounds=500).rate == 1000


def test_where_no_request_is_alone_nothing_is_known_and_it_shrinks() -> None:
    assert fed(Pace(100), beside=0.1, rounds=20, alone=False).rate == 0.5


def test_what_was_long_ago_is_no_measure() -> None:
    pace = fed(Pace(2), beside=0.1, rounds=8)
    reached = pace.rate
    assert fed(pace, beside=0.1, rounds=30, alone=False).rate < reached


def test_without_lines_it_stays_as_it_is() -> None:
    """Else hours without a batch would open the door for the next one."""
    pace = Pace(2)
    for _ in range(5000):
        pace.waited(ALONE, alone=True)
    assert pace.rate == 2


def test_a_few_slow_ones_of_many_are_no_reason() -> None:
    pace, chance = Pace(5), random.Random(1)
    for _ in range(2000):
        pace.waited(ALONE * (3 if chance.random() < 0.02 else 1), alone=chance.random() < 0.5)
    assert pace.rate > 50


def test_it_settles_where_a_model_of_a_replica_lets_it() -> None:
    """A replica whose first tokens take 3 % longer for each line a second: the tolerated growth is at about 8."""
    pace, chance, rates = Pace(2), random.Random(2), []
    for _ in range(8000):
        alone = chance.random() < 0.3
        pace.waited(ALONE if alone else ALONE * (1 + 0.03 * pace.rate), alone=alone)
        rates.append(pace.rate)
    late = rates[2000:]
    assert 4 < sum(late) / len(late) < 12 and max(late) < 20
