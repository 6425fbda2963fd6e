"""One request on its way through the fleet, and what became of it."""

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Request:
    """at: when it was first sent. prompt, answer: tokens. patience: seconds its client waits for a first token.

    first, end: when the first and the last token came; None without one. tries: which try this is. sent: when it was
    made. The rest is the engine's own: tokens of the prompt still to be computed, tokens made before a preemption, its
    place in the order of admission, whether the client has left.
    """

    number: int
    at: float
    prompt: int
    answer: int
    patience: float = float("inf")
    tries: int = 1
    sent: float = 0.0
    first: float | None = None
    end: float | None = None
    todo: int = 0
    made: int = 0
    place: int = 0
    gone: bool = False

    def again(self) -> "Request":
        """The same question asked anew, by a client that has given up waiting for the first."""
        return Request(self.number, self.at, self.prompt, self.answer, self.patience, self.tries + 1)

    @property
    def ttft(self) -> float | None:
        return None if self.first is None else self.first - self.at

    @property
    def tpot(self) -> float | None:
        """None for an answer that is not whole, or has one token."""
        if self.first is None or self.end is None or self.answer < 2:
            return None
        return (self.end - self.first) / (self.answer - 1)
