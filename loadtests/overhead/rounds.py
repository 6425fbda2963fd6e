"""One visit to one server: warm-up, then each phase with its timings and the CPU time that it cost."""

import dataclasses
import json
import secrets
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from loadtests.overhead.client import Plan, Result, decode_result
from loadtests.overhead.processes import ENGINE, Machine
from loadtests.overhead.servers import ROOT, BenchError, Side, Target


@dataclass(frozen=True)
class Load:
    """How much of what is asked: fixed numbers of requests, so that both sides do the same work."""

    streams: int = 64
    requests: int = 4  # per stream, with all streams; each wave takes 3-6 s on two cores
    single_requests: int = 10  # one stream alone, for its throughput and TPOT
    ttft_requests: int = 40  # one stream alone, short answers, for its TTFT; below 40 a p95 means nothing
    ttft_tokens: int = 16
    tokens: int = 128

    def phases(self) -> dict[str, tuple[int, int, int]]:
        """Return streams, requests per stream and tokens of each measured phase, in order."""
        return {
            TTFT: (1, self.ttft_requests, self.ttft_tokens),
            SINGLE: (1, self.single_requests, self.tokens),
            LOADED: (self.streams, self.requests, self.tokens),
        }


TTFT, SINGLE, LOADED = "ttft", "single", "loaded"


@dataclass(frozen=True)
class Phase:
    """One measured window. CPU seconds by process role; `cpu` is None when the processes are out of sight."""

    result: Result
    cpu: dict[str, float] | None
    foreign_cpu_s: float | None  # used by others on this machine, or stolen from it: noise, if it is not near zero

    @property
    def tokens(self) -> int:
        return sum(timing.tokens for timing in self.result.timings)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.result.wall_s

    @property
    def foreign_cores(self) -> float | None:
        return None if self.foreign_cpu_s is None else self.foreign_cpu_s / self.result.wall_s

    def cpu_us_per_token(self) -> dict[str, float] | None:
        """Return microseconds per token by role, the engine left out; None when the engine was not to be seen."""
        if self.cpu is None or not self.cpu.get(ENGINE):
            return None
        return {name: seconds / self.tokens * 1e6 for name, seconds in self.cpu.items() if name != ENGINE}


@dataclass(frozen=True)
class Round:
    """What one visit to one server gave."""

    side: Side
    number: int
    phases: dict[str, Phase] = field(default_factory=dict)


def visit(side: Side, number: int, target: Target, load: Load, seed: str, say: Callable[[str], None]) -> Round:
    """Warm the server up, measure every phase, and return the round; raise at the first phase with a failure."""
    say("warming up")
    for streams, requests in ((1, 5), (load.streams, 1)):
        _client(target, _plan(target, streams, requests, load.tokens, seed, "warm-up"))
    phases: dict[str, Phase] = {}
    for name, (streams, requests, tokens) in load.phases().items():
        say(f"{name}: {streams} x {requests} requests of {tokens} tokens")
        phases[name] = phase = _client(target, _plan(target, streams, requests, tokens, seed, name))
        say(f"{name}: {phase.tokens_per_s:,.0f} tokens/s")
    return Round(side, number, phases)


def _plan(target: Target, streams: int, requests: int, tokens: int, seed: str, phase: str) -> Plan:
    return Plan(
        **target.address,
        streams=streams,
        requests=requests,
        tokens=tokens,
        seed=f"{seed}/{phase}",
        nonce=secrets.token_hex(8),  # not from the seed: an old one could still be in a running server's cache
    )


def _client(target: Target, plan: Plan) -> Phase:
    """Run the client once, with CPU counted exactly from its word that it is ready to its result."""
    command = [sys.executable, "-m", "loadtests.overhead.client"]
    client = subprocess.Popen(
        command,
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert client.stdin is not None
    assert client.stdout is not None
    assert client.stderr is not None
    try:
        client.stdin.write(json.dumps(dataclasses.asdict(plan)) + "\n")
        client.stdin.flush()
        if client.stdout.readline() != "ready\n":
            raise BenchError(f"the load client did not start: {_last_line(client.stderr.read())}")
        before = target.processes.cpu() if target.processes else {}
        machine = Machine()
        client.stdin.write("go\n")
        client.stdin.flush()
        line = client.stdout.readline()
        used, stolen = machine.used()
        after = target.processes.cpu() if target.processes else {}
        if not line:
            raise BenchError(f"the load client broke: {_last_line(client.stderr.read())}")
    finally:
        client.kill()
        client.communicate()
    result = decode_result(line)
    if result.failed:
        asked = plan.streams * plan.requests
        raise BenchError(
            f"{result.failed} of {asked} requests failed, so this run says nothing:\n  " + "\n  ".join(result.reasons)
        )
    if target.processes is None:
        return Phase(result, None, None)
    cpu = {name: seconds - before.get(name, 0.0) for name, seconds in sorted(after.items())}
    foreign = used + stolen - sum(cpu.values()) - result.client_cpu_s
    return Phase(result, cpu, max(0.0, foreign))


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
