"""How long a replica takes from being asked for to its first answer: phases, each with a spread of its own."""

import math
from dataclasses import dataclass
from random import Random

from loadtests.durations import Seconds


@dataclass(frozen=True)
class Phase:
    """Log-normal around its median. spread: the standard deviation of the logarithm, 0 for always the same."""

    median: Seconds
    spread: float = 0.0

    def drawn(self, rng: Random) -> float:
        return self.median * math.exp(rng.gauss(0.0, self.spread)) if self.median else 0.0


@dataclass(frozen=True)
class StartUp:
    """node: until there is a GPU, image included. weights: onto it. engine: compiling, graphs. warm_up: first tokens.

    at_full_speed: so many load weights beside each other before they slow each other down. failing: the share of starts
    that come to nothing after the engine's phase and are begun again, on the same node.
    """

    node: Phase = Phase(0.0)
    weights: Phase = Phase(0.0)
    engine: Phase = Phase(0.0)
    warm_up: Phase = Phase(0.0)
    at_full_speed: int = 4
    failing: float = 0.0

    @property
    def median(self) -> float:
        return self.node.median + self.weights.median + self.engine.median + self.warm_up.median

    def drawn(self, loading: int, rng: Random) -> float:
        """Seconds of one start. loading: how many others are starting."""
        seconds = self.node.drawn(rng)
        slower = max(1.0, (loading + 1) / self.at_full_speed)
        while True:
            seconds += self.weights.drawn(rng) * slower + self.engine.drawn(rng)
            if rng.random() >= self.failing:
                return seconds + self.warm_up.drawn(rng)


AT_ONCE = StartUp()
