"""One visit to one server: warm-up, then each phase with its timings and the CPU time that it cost."""

import dataclasses
import json
import secrets
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from loadtests.overhead.client import Plan, Result, decode_result
from loadtests.overhead.peers import EngineKind
from loadtests.overhead.processes import ENGINE, Machine
from loadtests.overhead.servers import ROOT, BenchError, Target

TTFT, WHOLE = "ttft", "whole"


def loaded(streams: int) -> str:
    """The name of the phase with so many streams."""
    return f"{streams} stream{'s' * (streams > 1)}"


@dataclass(frozen=True)
class Ask:
    """What one phase asks for: each of `streams` clients, so many requests in a row of so many tokens."""

    streams: int
    requests: int
    tokens: int
    stream: bool = True


@dataclass(frozen=True)
class Load:
    """How much of what is asked: fixed numbers of requests, so that all peers do the same work."""

    streams: tuple[int, ...] = (1, 16, 64, 256)
    answers: int = 256  # at each number of streams, but 2 to 10 for each of them
    ttft_requests: int = 100  # one stream alone, short answers, for its TTFT; below 100 a p99 means nothing
    ttft_tokens: int = 16
    tokens: int = 128
    whole_streams: int = 64  # not streamed, of one token: what a request costs that is not tokens
    whole_requests: int = 8

    @property
    def reference(self) -> int:
        """The number of streams at which cost is compared: what one engine of this size is good for."""
        return max((streams for streams in self.streams if streams <= 64), default=min(self.streams))

    def phases(self) -> dict[str, Ask]:
        """Return the measured phases in order."""
        return {
            TTFT: Ask(1, self.ttft_requests, self.ttft_tokens),
            **{loaded(n): Ask(n, min(10, max(2, self.answers // n)), self.tokens) for n in self.streams},
            WHOLE: Ask(self.whole_streams, self.whole_requests, 1, stream=False),
        }


@dataclass(frozen=True)
class Phase:
    """One measured window. CPU seconds by process role; `cpu` is None when the processes are out of sight."""

    result: Result
    cpu: dict[str, float] | None
    foreign_cpu_s: float | None  # used by others on this machine, or stolen from it: noise, if it is not near zero
    engine_apart: bool = True  # else the engine is inside another process, and what it costs is counted there

    @property
    def tokens(self) -> int:
        return sum(timing.tokens for timing in self.result.timings)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.result.wall_s

    @property
    def foreign_cores(self) -> float | None:
        return None if self.foreign_cpu_s is None else self.foreign_cpu_s / self.result.wall_s

    def outside_engine(self) -> dict[str, float] | None:
        """Return CPU seconds by role, the engine left out; None when an engine was to be seen and was not."""
        if self.cpu is None or (self.engine_apart and not self.cpu.get(ENGINE)):
            return None
        return {name: seconds for name, seconds in self.cpu.items() if name != ENGINE}

    def cpu_us_per_token(self) -> dict[str, float] | None:
        """Return microseconds per token by role, the engine left out."""
        outside = self.outside_engine()
        return None if outside is None else {name: s / self.tokens * 1e6 for name, s in outside.items()}

    def requests_per_core(self) -> float | None:
        """Return requests for each second of one core, the engine's cores left out."""
        seconds = sum((self.outside_engine() or {}).values())
        return len(self.result.timings) / seconds if seconds else None


@dataclass(frozen=True)
class Round:
    """What one visit to one peer gave. memory: bytes by role, after the streams. failure: why it ended early."""

    engine: EngineKind
    peer: str
    number: int
    phases: dict[str, Phase] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    failure: str | None = None


def visit(
    engine: EngineKind, peer: str, number: int, target: Target, load: Load, seed: str, say: Callable[[str], None]
) -> Round:
    """Warm the server up and measure every phase; a phase with a failure ends the visit."""
    phases: dict[str, Phase] = {}
    memory: dict[str, float] = {}
    try:
        say("warming up")
        for ask in (Ask(1, 5, load.tokens), Ask(load.reference, 1, load.tokens), Ask(load.whole_streams, 1, 1, False)):
            _client(target, _plan(target, ask, seed, "warm-up"))
        for name, ask in load.phases().items():
            kind = "" if ask.stream else ", not streamed"
            say(f"{name}: {ask.streams} x {ask.requests} requests of {ask.tokens} tokens{kind}")
            if not ask.stream and target.processes:
                memory = target.processes.rss()
            phases[name] = phase = _client(target, _plan(target, ask, seed, name))
            rate = f"{phase.tokens_per_s:,.0f} tokens/s" if ask.stream else f"{phase.tokens_per_s:,.0f} requests/s"
            say(f"{name}: {rate}")
    except BenchError as error:
        say(f"failed: {error}")
        return Round(engine, peer, number, phases, memory, str(error))
    return Round(engine, peer, number, phases, memory)


def _plan(target: Target, ask: Ask, seed: str, phase: str) -> Plan:
    return Plan(
        **target.address,
        **dataclasses.asdict(ask),
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
    return Phase(result, cpu, max(0.0, foreign), target.engine_apart)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]
