"""How often a request that nobody has taken is sent on, and what it may break."""

from __future__ import annotations

from dataclasses import dataclass

from serving.engines.reading import NotTaken
from serving.engines.tries import Tries

REFUSED, BROKE = NotTaken(reached=False), NotTaken()


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def tries(clock: Clock, *, ours: bool = True, patience: float = 120.0) -> Tries:
    return Tries(clock, ours=ours, first_token_timeout=patience)


def test_a_request_reaches_three_replicas_for_nothing_at_most_and_the_dead_do_not_count() -> None:
    one = tries(Clock())
    outcomes = [one.go_on_after(failure, "a") for failure in (BROKE, REFUSED, REFUSED, REFUSED, BROKE, REFUSED, BROKE)]
    assert outcomes == [True, True, True, True, True, True, False]


def test_replicas_of_ours_are_asked_for_fifteen_seconds_from_the_first_failure() -> None:
    clock = Clock(30.0)
    one = tries(clock)
    clock.now = 60.0
    assert one.go_on_after(REFUSED, "a")
    clock.now = 75.0
    assert one.go_on_after(REFUSED, "a")
    clock.now = 75.1
    assert not one.go_on_after(REFUSED, "a")


def test_not_when_a_first_token_could_no_longer_come_in_time() -> None:
    clock = Clock()
    one = tries(clock, patience=5.0)
    clock.now = 5.1
    assert not one.go_on_after(REFUSED, "a")


def test_an_address_elsewhere_is_asked_three_times() -> None:
    one = tries(Clock(), ours=False)
    assert [one.go_on_after(REFUSED, "a") for _ in range(3)] == [True, True, False]


def test_only_before_one_that_has_failed_there_is_a_pause_and_it_grows() -> None:
    one = tries(Clock())
    assert one.pause_before("a") == 0.0
    one.go_on_after(REFUSED, "a")
    assert one.pause_before("b") == 0.0
    assert [one.pause_before("a") for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_after_it_was_held_the_time_begins_anew_and_what_it_has_reached_still_counts() -> None:
    clock = Clock()
    one = tries(clock)
    one.go_on_after(BROKE, "a")
    one.go_on_after(BROKE, "b")
    clock.now = 100.0
    one.start_anew()
    assert not one.failed and one.go_on_after(REFUSED, "c") and not one.go_on_after(BROKE, "d")
