"""The load client, a process of its own: a closed loop of chat requests, timed as the bytes arrive.

It shares the cores with what it measures, so it does as little as it can: requests are encoded before the clock runs,
events are parsed as JSON only up to the first one with content, and the rest is looked at once the answer is complete.

    echo '{"host": "127.0.0.1", "port": 8000, "model": "m", "streams": 4, ...}' | python -m loadtests.overhead.client

The plan comes in as one line of JSON on stdin (not as an argument: it holds a key). The client then connects, writes
"ready", waits for a second line or the end of input, runs, and writes its result as one line of JSON.
"""

import asyncio
import gc
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any, cast

import uvloop

from loadtests.overhead.answer import Answer, Failed, Timing

GAP_UNIT_S = 1e-5
"""Time between tokens is kept in steps of this size: a run has a hundred thousand of them."""
REASONS_KEPT = 5


@dataclass(frozen=True)
class Plan:
    """What one client run asks for: `streams` workers, each with `requests` requests of `tokens` tokens in a row."""

    host: str
    port: int
    model: str
    streams: int
    requests: int
    tokens: int
    seed: str = "0"  # decides the notes; the same for both sides, so that they get the same work
    nonce: str = ""  # decides the head of each prompt; never the same twice, so that no prefix cache helps
    path: str = "/v1/chat/completions"
    key: str = field(default="", repr=False)
    tls: bool = False
    stream: bool = True
    timeout_s: float = 120.0  # for one whole answer


@dataclass(frozen=True)
class Result:
    """One client run. `wall_s` is from the first byte sent to the last one received.

    gaps: how often each time between two tokens was seen, in units of GAP_UNIT_S. Tokens that one read brings together
    are nothing apart, as they are for whoever reads the screen.
    """

    wall_s: float
    client_cpu_s: float
    timings: list[Timing]
    failed: int = 0
    reasons: list[str] = field(default_factory=list)
    gaps: dict[int, int] = field(default_factory=dict)


COMPLAINTS = ("chest pain on exertion", "a dry cough", "swollen ankles", "dizziness on standing", "a painful knee")
PROBLEMS = ("hypertension", "type 2 diabetes", "atrial fibrillation", "asthma", "chronic kidney disease", "gout")
DRUGS = ("lisinopril 10 mg daily", "metformin 500 mg twice daily", "apixaban 5 mg twice daily", "atorvastatin 20 mg")
QUESTIONS = (
    "Which medications does the patient take?",
    "Summarise the visit in one sentence.",
    "List the problems in this note.",
    "What was the blood pressure?",
)


def prompt(seed: str, nonce: str, number: int) -> str:
    """Return a short synthetic visit note and a question about it; equal arguments give equal text."""
    rng = Random(f"{seed}/{number}")
    head = Random(f"{seed}/{nonce}/{number}").getrandbits(64)
    return (
        f"Visit {head:016x}. A {rng.randint(20, 89)}-year-old {rng.choice(('woman', 'man'))} has had "
        f"{rng.choice(COMPLAINTS)} for {rng.randint(2, 28)} days. History of {' and '.join(rng.sample(PROBLEMS, 2))}. "
        f"Takes {' and '.join(rng.sample(DRUGS, 2))}. No known allergies. Blood pressure {rng.randint(105, 175)}/"
        f"{rng.randint(60, 99)}, heart rate {rng.randint(52, 110)}, sodium {rng.randint(132, 146)}, creatinine "
        f"{rng.randint(6, 19) / 10}. Plan: repeat the labs and review in {rng.randint(2, 12)} weeks.\n\n"
        f"{rng.choice(QUESTIONS)}"
    )


def encode(plan: Plan, number: int) -> bytes:
    """Return the whole HTTP request, ready to write."""
    asked: dict[str, Any] = {
        "model": plan.model,
        "messages": [{"role": "user", "content": prompt(plan.seed, plan.nonce, number)}],
        "temperature": 0,
        "max_tokens": plan.tokens,
        "min_tokens": plan.tokens,
        "ignore_eos": True,
        # Else a token that ends a turn has no text, nor has what follows: no first token could be seen.
        "skip_special_tokens": False,
    }
    if plan.stream:
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps(asked).encode()
    lines = [
        f"POST {plan.path} HTTP/1.1",
        f"Host: {plan.host}:{plan.port}",
        f"Accept: {'text/event-stream' if plan.stream else 'application/json'}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    if plan.key:
        lines.append(f"Authorization: Bearer {plan.key}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection(asyncio.Protocol):
    """One keep-alive connection with one answer on it at a time. gaps: where to count the time between tokens."""

    def __init__(self, gaps: Counter[int], *, stream: bool) -> None:
        self.open = False
        self._gaps = gaps
        self._stream = stream
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._done: asyncio.Future[None] | None = None

    async def ask(self, request: bytes, tokens: int) -> Timing:
        """Send a request and return the timing of its answer, or raise Failed."""
        if self._transport is None or not self.open:
            raise Failed("connection closed before the request")
        answer = self._answer = Answer(stream=self._stream)
        done = self._done = asyncio.get_running_loop().create_future()
        sent = time.perf_counter()
        self._transport.write(request)
        try:
            await done
        finally:
            self._answer = None
            if not (answer.complete and answer.keep_alive):
                self.close()
        try:
            timing = answer.timing(sent, tokens)
        except (ValueError, LookupError, TypeError) as error:
            raise Failed(f"cannot read the answer: {error!r}") from error
        self._gaps.update(round(gap / GAP_UNIT_S) for gap in answer.gaps(tokens))
        return timing

    def close(self) -> None:
        self.open = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self.open = cast(asyncio.Transport, transport), True  # uvloop's does not inherit from it

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self._answer is None:
            self.close()  # nobody asked: not a connection to go on with
            return
        try:
            self._answer.feed(data, now)
        except ValueError as error:  # int() and json.loads: not the HTTP or not the events that we know
            self._finish(Failed(f"cannot read the answer: {error}"))
            return
        if self._answer.complete:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if self._answer is not None:
            self._answer.closed()
            self._finish()

    def _finish(self, error: Exception | None = None) -> None:
        if self._done is None or self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)


async def run(plan: Plan, started: Callable[[], None] = lambda: None) -> Result:
    """Connect, call `started`, send everything that the plan asks for, and return what was measured."""
    loop = asyncio.get_running_loop()
    gaps: Counter[int] = Counter()

    async def connect() -> Connection:
        _, connection = await loop.create_connection(
            lambda: Connection(gaps, stream=plan.stream), plan.host, plan.port, ssl=plan.tls or None
        )
        return connection

    timings: list[Timing] = []
    reasons: list[str] = []

    async def worker(connection: Connection, requests: Sequence[bytes]) -> None:
        for request in requests:
            try:
                async with asyncio.timeout(plan.timeout_s):
                    if not connection.open:
                        connection = await connect()
                    timings.append(await connection.ask(request, plan.tokens))
            except TimeoutError:
                reasons.append(f"no whole answer in {plan.timeout_s:g} s")
            except (Failed, OSError, ValueError) as error:
                reasons.append(str(error))
        connection.close()

    batches = [
        [encode(plan, stream * plan.requests + request) for request in range(plan.requests)]
        for stream in range(plan.streams)
    ]
    connections = [await connect() for _ in range(plan.streams)]
    started()
    cpu, begin = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker(c, requests) for c, requests in zip(connections, batches, strict=True)))
    wall_s, cpu_s = time.perf_counter() - begin, time.process_time() - cpu
    return Result(wall_s, cpu_s, timings, len(reasons), reasons[:REASONS_KEPT], dict(gaps))


def decode_result(line: str) -> Result:
    """Return the Result that a client wrote as JSON."""
    fields: dict[str, Any] = json.loads(line)
    timings = [Timing(**timing) for timing in fields["timings"]]
    gaps = {int(units): count for units, count in fields["gaps"].items()}
    return Result(**{**fields, "timings": timings, "gaps": gaps})


def main() -> None:
    plan = Plan(**json.loads(sys.stdin.readline()))

    def started() -> None:
        print("ready", flush=True)
        sys.stdin.readline()  # blocks the loop, on purpose: nothing moves before the word to go

    gc.collect()
    gc.disable()  # short-lived, and a collection in the window would be measured as latency
    try:
        result = uvloop.run(run(plan, started))
    except OSError as error:
        sys.exit(f"cannot connect to {plan.host}:{plan.port}: {error}")
    print(json.dumps(asdict(result)), flush=True)


if __name__ == "__main__":
    main()
