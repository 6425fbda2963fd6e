"""An engine that is stuck, told from one that is idle, slow, or busy."""

from __future__ import annotations

from dataclasses import dataclass

from serving.deployments.stuck import Stuck


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def looks(*readings: tuple[float, int, bool], patience: float = 10.0) -> list[bool]:
    """What it says at each (time, steps, has_work)."""
    clock = Clock()
    stuck, said = Stuck(patience, clock), []
    for clock.now, steps, has_work in readings:
        said.append(stuck.look(steps=steps, has_work=has_work))
    return said


def test_work_without_a_step_for_longer_than_a_step_may_take() -> None:
    assert looks((0, 5, True), (10, 5, True), (10.1, 5, True)) == [False, False, True]


def test_an_idle_engine_makes_no_steps_and_is_well() -> None:
    assert looks((0, 5, False), (1000, 5, False), (1002, 5, True), (1010, 5, True)) == [False] * 4


def test_a_slow_engine_is_not_stuck() -> None:
    assert not any(looks(*[(9.0 * n, n, True) for n in range(20)]))
