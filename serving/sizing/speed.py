"""How fast, by a roofline: a decoding step reads all weights and the requests' caches, a prefill multiplies.

Neither is ever reached, so each is taken at a share. A model of the hardware, not a measurement: `make load` measures.
"""

from __future__ import annotations

from dataclasses import dataclass

from serving.sizing.architecture import Architecture
from serving.sizing.gpus import Gpu
from serving.sizing.precision import KNOWN


@dataclass(frozen=True, slots=True)
class Efficiency:
    """bandwidth, arithmetic: shares of the data sheet's that are reached. step: seconds of a step besides, on the host.
    exchange: seconds of one exchange between GPUs; a layer has two.
    """

    bandwidth: float = 0.7
    arithmetic: float = 0.5
    step: float = 0.002
    exchange: float = 15e-6


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one replica. first_token: seconds for one record on an idle replica. between_tokens: seconds, with `requests`
    of them at a time. prompt, answer: tokens a second with as many.
    """

    requests: int
    first_token: float
    between_tokens: float
    prompt: float
    answer: float


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a million tokens, in the currency of the price. all: over prompts and answers, as the record mixes them."""

    prompt: float
    answer: float
    all: float


@dataclass(frozen=True, slots=True)
class Machine:
    """One replica: a model on so many GPUs. read_bytes: weights that a step reads. kv_bytes: what a token leaves in one
    layer, on all GPUs together.
    """

    architecture: Architecture
    gpu: Gpu
    gpus: int
    read_bytes: float
    kv_bytes: float
    quantisation: str | None
    efficiency: Efficiency

    def speed(self, requests: int, record: int, answer: int) -> Speed:
        """In balance: each request needs its prefill for itself, and its answer's steps with all the others."""
        prompt = record - answer
        prefill = self.prefill_seconds(prompt)
        one = prefill + answer * self.step_seconds(requests, record) / requests
        return Speed(
            requests=requests,
            first_token=prefill,
            between_tokens=requests * one / answer,
            prompt=prompt / one,
            answer=answer / one,
        )

    def prefill_seconds(self, tokens: int) -> float:
        """For one prompt, alone. Each weight that a token meets is a multiplication and an addition."""
        a = self.architecture
        seen = sum(_mean_reach(tokens, window) for window in a.windows)
        operations = 2 * tokens * a.weights.active + 4 * tokens * seen * a.heads * a.head_dim
        reached = self._operations_per_second * self.efficiency.arithmetic
        return operations / reached + self.efficiency.step + self._exchanges

    def step_seconds(self, requests: int, tokens: int) -> float:
        """Of one decoding step, in which each of the requests, of so many tokens, gets one more."""
        a, e = self.architecture, self.efficiency
        share = a.weights.active / a.weights.linear if requests == 1 else 1.0  # a batch meets all experts
        read = self.read_bytes * share + requests * self.kv_bytes * sum(min(tokens, w or tokens) for w in a.windows)
        multiplied = 2 * requests * (a.weights.active + (a.weights.output or a.weights.embedding))
        reading = read / (self.gpus * self.gpu.bandwidth * e.bandwidth)
        multiplying = multiplied / (self._operations_per_second * e.arithmetic)
        return max(reading, multiplying) + e.step + self._exchanges

    @property
    def _operations_per_second(self) -> float:
        units = self.quantisation is not None and KNOWN[self.quantisation].fp8_units
        return self.gpus * (self.gpu.fp8 if units else self.gpu.bf16)

    @property
    def _exchanges(self) -> float:
        return 2 * self.architecture.layers * self.efficiency.exchange if self.gpus > 1 else 0.0


def cost_of(speed: Speed, *, an_hour: float, load: float, record: int, answer: int) -> Cost:
    """an_hour: of all the replica's GPUs. Its time is divided among prompts and answers by what each takes of it."""
    million = an_hour / 3600 / load * 1e6
    whole = 1 / (speed.prompt + speed.answer)
    decoding = 1 / speed.answer - speed.first_token / answer
    return Cost(prompt=million * speed.first_token / (record - answer), answer=million * decoding, all=million * whole)


def _mean_reach(tokens: int, window: int | None) -> float:
    """How many tokens back a token looks, on average over a prompt."""
    if window is None or window >= tokens:
        return tokens / 2
    return window - window * window / (2 * tokens)
