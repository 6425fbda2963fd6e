"""The replica that is simulated: its speed, fitted to published timings, and the time its start takes.

step_times.csv: Llama-2-70B on four H100 (vLLM, tensor parallel), medians of five runs, from the Splitwise simulator's
data/perf_model.csv (github.com/Mutinifni/splitwise-sim at 3780880, MIT licence; Patel et al., ISCA 2024).
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtests.simulator.engine import Limits, Speed
from loadtests.simulator.starting import Phase, StartUp

STEP_TIMES = Path(__file__).with_name("step_times.csv")
GPUS = 4
LIMITS = Limits(budget=2048, running=256, kv_tokens=400_000)
"""vLLM's defaults for steps. The cache: 4 x 80 GB x 0.9, less 140 GB of weights, at 320 KiB a token, rounded down."""

TUNED = StartUp(
    node=Phase(35.0, 0.3),
    weights=Phase(27.0, 0.2),
    engine=Phase(38.0, 0.1),
    warm_up=Phase(5.0, 0.1),
    failing=0.01,
)
"""Medians: a node is ready in 35 s in a Kubernetes lab; weights 27 s by sharded streaming, engine 38 s with its compile
cache kept, both for Llama-3-70B TP4 on 8 x H100 (Anyscale's replica_initialization logs). Warm-up and spreads: ours."""

UNTUNED = StartUp(
    node=Phase(35.0, 0.3),
    weights=Phase(212.0, 0.2),
    engine=Phase(92.0, 0.1),
    warm_up=Phase(5.0, 0.1),
    failing=0.01,
)
"""The same without streaming and compile cache: download 196 s, load 16 s, engine 92 s (the same source)."""


@dataclass(frozen=True)
class Timing:
    """One published measurement, seconds: a prompt's step, and a later token's."""

    prompt: int
    batch: int
    answer: int
    prompt_seconds: float
    token_seconds: float


def timings(path: Path = STEP_TIMES) -> list[Timing]:
    with path.open(newline="") as file:
        return [
            Timing(int(row["prompt"]), int(row["batch"]), int(row["answer"]), *_seconds(row))
            for row in csv.DictReader(file)
        ]


def _seconds(row: dict[str, str]) -> tuple[float, float]:
    return float(row["prompt_ms"]) / 1e3, float(row["token_ms"]) / 1e3


def fitted(measured: list[Timing]) -> Speed:
    """Least squares of relative errors: tokens give base, decode and kv; prompts of a thousand tokens the rest."""
    rows = np.array([[1.0, one.batch, one.batch * (one.prompt + one.answer / 2)] for one in measured])
    times = np.array([one.token_seconds for one in measured])
    base, decode, kv = np.linalg.lstsq(rows / times[:, None], np.ones(len(times)), rcond=None)[0]
    long = [one for one in measured if one.prompt * one.batch >= 1000]
    prefill = np.mean([(one.prompt_seconds - decode * one.batch) / (one.prompt * one.batch) for one in long])
    return Speed(float(base), float(prefill), float(decode), float(max(kv, 0.0)))


def errors(speed: Speed, measured: list[Timing]) -> tuple[float, float]:
    """Mean relative errors of the fit: of prompts, of tokens."""
    prompts = [abs(_prompt(speed, one) / one.prompt_seconds - 1) for one in measured]
    tokens = [abs(_token(speed, one) / one.token_seconds - 1) for one in measured]
    return float(np.mean(prompts)), float(np.mean(tokens))


def _prompt(speed: Speed, one: Timing) -> float:
    return speed.step(one.prompt * one.batch, 0, 0)


def _token(speed: Speed, one: Timing) -> float:
    return speed.step(0, one.batch, round(one.batch * (one.prompt + one.answer / 2)))
