"""Who may try a store that is away."""

from __future__ import annotations

from serving.tenants.turnstile import Turnstile


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_while_the_store_answers_all_enter() -> None:
    turnstile = Turnstile(1.0, Clock())
    assert [turnstile.enter() for _ in range(3)] == [True] * 3
    assert turnstile.answered() is False


def test_while_it_is_away_one_enters_each_time_until_one_is_answered() -> None:
    clock = Clock()
    turnstile = Turnstile(1.0, clock)
    assert turnstile.failed() is True
    assert turnstile.failed() is False
    assert [turnstile.enter() for _ in range(2)] == [False] * 2
    for clock.now in (101.0, 102.5):
        assert turnstile.is_open()
        assert [turnstile.enter() for _ in range(3)] == [True, False, False]
        assert not turnstile.is_open()
    assert turnstile.answered() is True
    assert [turnstile.enter() for _ in range(3)] == [True] * 3
