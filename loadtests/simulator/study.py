"""Which runs make the comparison: policies and their knobs, loads, seeds, ablations; and how they are run."""

import functools
import gc
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from loadtests import traces
from loadtests.simulator import hardware
from loadtests.simulator.controller import Hardware, MetricPath
from loadtests.simulator.engine import BatchingEngine, Speed
from loadtests.simulator.judge import Figures, Objective, judged
from loadtests.simulator.load import Patience, bursts, crowd, day, made_up
from loadtests.simulator.policies import Oracle, Ours, Policy, QueueThreshold, RayDefault, Static
from loadtests.simulator.profiling import needs, profiled
from loadtests.simulator.request import Request
from loadtests.simulator.starting import AT_ONCE
from loadtests.simulator.world import Setup, simulated
from serving.scaling.decision import Goals
from serving.scaling.profile import CapacityProfile

OBJECTIVE = Objective()
KNOBS: Mapping[str, tuple[float, ...]] = {
    "ours": (0.6, 0.8, 1.0, 1.25, 1.6),
    "ray": (2, 16, 32, 48, 64),
    "ray-fast": (16, 24, 32, 48, 64),
    "queue": (1, 20, 50),
    "queue-kv": (0.1, 0.2, 0.4),
    "static": (0.6, 0.8, 1.0, 1.2),
    "oracle": (-0.2, 0.0, 0.2, 0.4),
}
TOLD = {
    "ours": ("the product's rule", "trust in the profile"),
    "ray": ("Ray Serve's default policy and delays", "target_ongoing_requests"),
    "ray-fast": ("the same, with ours' metrics and delays", "target_ongoing_requests"),
    "queue": ("KEDA on waiting requests and 80 % of the KV cache", "waiting requests a replica"),
    "queue-kv": ("KEDA on 5 waiting requests and the KV cache", "KV cache's use"),
    "static": ("always as many", "share of the peak's need"),
    "oracle": ("knows the future, starts at once", "spare share"),
}
"""What each policy is, and its knob."""
PLAIN, NO_START, NO_DELAY, LATE, SLOW_START = "as it is", "no start-up", "no metric delay", "late metrics", "slow start"
ABLATIONS = (PLAIN, NO_START, NO_DELAY, LATE, SLOW_START)
_RAY, _OURS, _PROMETHEUS = MetricPath(10.0), MetricPath(1.0, look_back=5.0), MetricPath(15.0)
METRICS = {"ours": _OURS, "ray": _RAY, "ray-fast": _OURS, "queue": _PROMETHEUS, "queue-kv": _PROMETHEUS}
"""Between a replica's reports: what the product sets, Ray's default, a usual scrape. The others look at none."""
MADE_UP = {"day": day, "bursts": bursts}
MOST = 64
"""Replicas at most: beyond what any sensible setting asks for, so that a bound decides nothing."""


@dataclass(frozen=True)
class Load:
    """trace: a file, or the name of a made-up hour. scale: callers for each call of the trace; requests a second."""

    trace: str
    scale: float
    seconds: float = 3600.0

    def requests(self, rng: Random) -> list[Request]:
        if self.trace in MADE_UP:
            return made_up(MADE_UP[self.trace](self.scale), self.seconds, Patience(), rng)
        calls = [call for call in _read(self.trace) if call.at <= self.seconds]
        return crowd(calls, self.scale, Patience(), rng)


@dataclass(frozen=True)
class Job:
    """One run. Equal jobs have equal results, on whichever process."""

    load: Load
    policy: str
    knob: float
    seed: int
    ablation: str = PLAIN


def run(jobs: Iterable[Job], processes: int) -> Iterator[tuple[Job, Figures]]:
    """In the order of the jobs, as they are done."""
    jobs = list(jobs)
    if processes == 1:
        yield from ((job, one(job)) for job in jobs)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from zip(jobs, pool.map(one, jobs, chunksize=1), strict=True)


def one(job: Job) -> Figures:
    """Equal seeds give equal requests and equal chances, whatever the policy: differences are the policies'."""
    requests = job.load.requests(Random(f"load {job.seed}"))
    filled = needs(requests, speed(), OBJECTIVE, Oracle.STEP)
    setup = ablated(_setup(job.policy, max(filled[: int(60 / Oracle.STEP)])), job.ablation)
    policy = _policy(job, filled, setup)
    if isinstance(policy, Static):
        setup = replace(setup, hardware=replace(setup.hardware, initial=policy.replicas))
    gc.disable()  # a run makes little garbage and many objects that stay: collections are a third of its time
    try:
        return judged(simulated(setup, policy, requests, Random(f"chance {job.seed}")), OBJECTIVE)
    finally:
        gc.enable()


def _setup(policy: str, filled: float) -> Setup:
    """filled: replicas that the first minute fills; all policies begin with these and a half more."""
    return Setup(
        Hardware(engine, hardware.TUNED, initial=max(1, round(1.5 * filled)), maximum=MOST), METRICS.get(policy, _RAY)
    )


def ablated(setup: Setup, ablation: str) -> Setup:
    """The setup with one assumption changed."""
    if ablation == NO_START:
        return replace(setup, hardware=replace(setup.hardware, start=AT_ONCE))
    if ablation == SLOW_START:
        return replace(setup, hardware=replace(setup.hardware, start=hardware.UNTUNED))
    if ablation == NO_DELAY:
        return replace(setup, metrics=MetricPath(interval=1.0, delay=0.0, lost=0.0, look_back=1.0))
    if ablation == LATE:
        return replace(setup, metrics=replace(setup.metrics, interval=30.0, delay=5.0))
    return setup


def _policy(job: Job, filled: list[float], setup: Setup) -> Policy:
    match job.policy:
        case "ours":
            goals = Goals(ttft_p95=OBJECTIVE.ttft, tpot_p95=OBJECTIVE.tpot)
            profile = replace(trusted(job.knob), start_seconds=setup.hardware.start.median)
            return Ours(goals, profile)
        case "ray":
            return RayDefault(job.knob, setup.hardware.minimum, setup.hardware.maximum)
        case "ray-fast":
            delays = {"upscale_delay_s": 0.0, "downscale_delay_s": 300.0}
            return RayDefault(job.knob, setup.hardware.minimum, setup.hardware.maximum, **delays)
        case "queue":
            return QueueThreshold(job.knob)
        case "queue-kv":
            return QueueThreshold(waiting=5.0, kv_cache=job.knob)
        case "static":
            return Static(max(1, round(max(filled) * job.knob)))
        case "oracle":
            return Oracle(filled, job.knob)
    raise ValueError(f"no policy {job.policy!r}")


def trusted(factor: float) -> CapacityProfile:
    """The measured profile, taken for so much of what it says."""
    whole = profile()
    return CapacityProfile(
        whole.prefill_rate * factor, whole.decode_rate * factor, whole.concurrency * factor, whole.start_seconds
    )


def engine() -> BatchingEngine:
    return BatchingEngine(speed(), hardware.LIMITS)


@functools.cache
def speed() -> Speed:
    return hardware.fitted(hardware.timings())


@functools.cache
def profile() -> CapacityProfile:
    return profiled(speed(), hardware.LIMITS, OBJECTIVE, hardware.TUNED.median)


@functools.cache
def _read(path: str) -> tuple[traces.Call, ...]:
    return traces.read(Path(path))
