"""People at their screens: small streamed chats that come at a fixed rate, whether or not the last one is answered.

They stand for clients on other machines. Beside a server that keeps all cores busy, an ordinary process is woken late:
the first token had been written 15 ms after the question, and this client read it up to 60 ms later, with the last one
(two cores, seen with strace). So it runs at real-time priority, and says how late its own clock woke it.
"""

import asyncio
import contextlib
import json
import os
import secrets
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import aiohttp

from loadtests.batches.server import DrillError

QUESTION = "67-year-old woman. Medications: lisinopril 10 mg daily. Allergies: penicillin. Which medications?"
_TICK_S = 0.02


@dataclass(frozen=True, slots=True)
class Round:
    """first_tokens: seconds of each chat. lag: seconds by which the client's clock woke it late, p99."""

    first_tokens: Sequence[float]
    lag: float


def chat_round(url: str, key: str, model: str, *, rate: float, seconds: float, seed: int) -> Round:
    """Arrivals are random at this mean rate, the same for the same seed. Raises DrillError."""
    with _at_once():
        return asyncio.run(_chats(url, key, model, rate, seconds, Random(seed)))


@contextlib.contextmanager
def _at_once() -> Iterator[None]:
    """This thread goes before all others, where it may (root on Linux); else the lag will tell."""
    try:
        before = os.sched_getscheduler(0), os.sched_getparam(0)
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except (AttributeError, PermissionError):
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, *before)


async def _chats(url: str, key: str, model: str, rate: float, seconds: float, chance: Random) -> Round:
    headers = {"authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    late: list[float] = []
    clock = asyncio.create_task(_watch_clock(late))
    async with aiohttp.ClientSession(url, headers=headers, connector=connector, trust_env=False) as session:
        chats = []
        begin, at = time.perf_counter(), 0.0
        while (at := at + chance.expovariate(rate)) < seconds:
            await asyncio.sleep(max(0.0, begin + at - time.perf_counter()))
            # No head of a prompt comes twice: a prefix cache would help whoever comes second.
            chats.append(asyncio.create_task(_chat(session, model, f"{secrets.token_hex(4)} {QUESTION}")))
        times = list(await asyncio.gather(*chats))
    clock.cancel()
    return Round(times, statistics.quantiles(late, n=100)[-1])


async def _watch_clock(late: list[float]) -> None:
    while True:
        due = time.perf_counter() + _TICK_S
        await asyncio.sleep(_TICK_S)
        late.append(time.perf_counter() - due)


async def _chat(session: aiohttp.ClientSession, model: str, text: str) -> float:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": True, "max_tokens": 24}
    began, first = time.perf_counter(), None
    async with session.post("/v1/chat/completions", json=body) as answer:
        async for line in answer.content:
            if first is None and line.startswith(b"data: {") and _has_content(line):
                first = time.perf_counter() - began
        if answer.status != 200 or first is None or not line.startswith((b"data: [DONE]", b"\n")):
            raise DrillError(f"a chat failed with status {answer.status}")
    return first


def _has_content(line: bytes) -> bool:
    choices = json.loads(line.removeprefix(b"data: ")).get("choices")
    return bool(choices and choices[0]["delta"].get("content"))


def p95(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]
