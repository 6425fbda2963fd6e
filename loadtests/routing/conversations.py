"""People who ask about patients: instructions that a department shares, a long record, several turns."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import aiohttp

from loadtests.batches.server import DrillError
from loadtests.notes import QUESTIONS, visit

_INSTRUCTION_VISITS, _ANSWER_TOKENS = 3, 24


@dataclass(frozen=True, slots=True)
class Conversation:
    """messages: what it begins with, instructions and record. questions: one for each turn."""

    messages: tuple[dict[str, str], ...]
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """number: 0 for the first. seconds: to the first token. prompt, cached: tokens, as the usage says."""

    number: int
    seconds: float
    prompt: int
    cached: int


def conversations(
    seed: int, *, patients: int, visits: int, turns: int, departments: int, times: int = 2
) -> list[Conversation]:
    """Each patient is asked about `times` times, by somebody else each time, in no order."""
    rng = Random(seed)
    manuals = [f"Department {number}. " + _text(rng, _INSTRUCTION_VISITS) for number in range(departments)]
    records = [f"Patient {rng.getrandbits(32):08x}. " + _text(rng, visits) for _ in range(patients)]
    made = [
        Conversation(
            (
                {"role": "system", "content": manuals[patient % departments]},
                {"role": "user", "content": f"{record}\n{rng.choice(QUESTIONS)}"},
            ),
            tuple(rng.choice(QUESTIONS) for _ in range(turns - 1)),
        )
        for patient, record in enumerate(records)
        for _ in range(times)
    ]
    rng.shuffle(made)
    return made


def _text(rng: Random, visits: int) -> str:
    return " ".join(visit(rng) for _ in range(visits))


def held(
    url: str, key: str, model: str, waiting: Sequence[Conversation], *, people: int, think: float, seed: int
) -> list[Turn]:
    """All turns of these conversations, so many at a time. think: mean seconds before a next question."""
    return asyncio.run(_held(url, key, model, list(waiting), people, think, seed))


async def _held(
    url: str, key: str, model: str, waiting: list[Conversation], people: int, think: float, seed: int
) -> list[Turn]:
    turns: list[Turn] = []
    waiting.reverse()

    async def person(number: int) -> None:
        chance = Random(f"{seed}/{number}")
        while waiting:
            conversation = waiting.pop()
            messages = list(conversation.messages)
            for at in range(len(conversation.questions) + 1):
                answer, turn = await _asked(session, model, messages, at)
                turns.append(turn)
                if at < len(conversation.questions):
                    messages += [
                        {"role": "assistant", "content": answer},
                        {"role": "user", "content": conversation.questions[at]},
                    ]
                    await asyncio.sleep(chance.expovariate(1 / think) if think else 0)

    headers = {"authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    async with (
        aiohttp.ClientSession(url, headers=headers, connector=connector, trust_env=False) as session,
        asyncio.TaskGroup() as group,
    ):
        for number in range(people):
            group.create_task(person(number))
    return turns


async def _asked(
    session: aiohttp.ClientSession, model: str, messages: list[dict[str, str]], number: int
) -> tuple[str, Turn]:
    body = {
        "model": model,
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": _ANSWER_TOKENS,
        "temperature": 0,
    }
    began, first, usage, text = time.perf_counter(), None, None, ""
    async with session.post("/v1/chat/completions", json=body) as answer:
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            event: dict[str, Any] = json.loads(line[6:])
            usage = event.get("usage") or usage
            piece = "".join(choice["delta"].get("content") or "" for choice in event.get("choices", []))
            if piece and first is None:
                first = time.perf_counter() - began
            text += piece
    if answer.status != 200 or usage is None:
        raise DrillError(f"a turn failed with status {answer.status}")
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    return text, Turn(number, first or time.perf_counter() - began, usage["prompt_tokens"], cached)
