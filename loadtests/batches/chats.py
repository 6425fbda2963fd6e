"""People at their screens: small streamed chats that come at a fixed rate, whether or not the last one is answered."""

import asyncio
import json
import secrets
import statistics
import time
from collections.abc import Sequence
from random import Random

import aiohttp

from loadtests.batches.server import DrillError

QUESTION = "67-year-old woman. Medications: lisinopril 10 mg daily. Allergies: penicillin. Which medications?"


def first_tokens(url: str, key: str, model: str, *, rate: float, seconds: float, seed: int) -> list[float]:
    """Seconds to first token of each chat. Arrivals are random at this mean rate, the same for the same seed."""
    return asyncio.run(_chats(url, key, model, rate, seconds, Random(seed)))


async def _chats(url: str, key: str, model: str, rate: float, seconds: float, chance: Random) -> list[float]:
    headers = {"authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    async with aiohttp.ClientSession(url, headers=headers, connector=connector, trust_env=False) as session:
        chats = []
        begin, at = time.perf_counter(), 0.0
        while (at := at + chance.expovariate(rate)) < seconds:
            await asyncio.sleep(max(0.0, begin + at - time.perf_counter()))
            # No head of a prompt comes twice: a prefix cache would help whoever comes second.
            chats.append(asyncio.create_task(_chat(session, model, f"{secrets.token_hex(4)} {QUESTION}")))
        return list(await asyncio.gather(*chats))


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
