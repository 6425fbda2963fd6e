"""What a running deployment can do, found out with real requests: more and more streams at a time, and long prompts."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from serving.commands.remote import CannotAsk
from serving.scaling.meter import percentile_95

_ANSWER = 64
"""Tokens of an answer."""
_PROMPT = 400
"""Words of a long prompt; halved until it fits the model."""
_READERS = 4
_LEAST_GAIN = 1.05
"""Of decode rate, by which twice the streams must be better to go on."""
_RAMP = 0.25
"""The part of each level that is not counted: its streams have all begun together."""


@dataclass(frozen=True, slots=True)
class Level:
    """So many streams at a time, what they got, and what they waited. Times in seconds, at the client."""

    streams: int
    requests: int
    decode_rate: float
    ttft_p95: float
    tpot_p95: float

    def meets(self, ttft: float, tpot: float) -> bool:
        return self.ttft_p95 <= ttft and self.tpot_p95 <= tpot


@dataclass
class _Tally:
    """What the streams of one level have seen."""

    firsts: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    events: list[float] = field(default_factory=list)
    """When each event with content came."""
    tokens: int = 0
    prompt_tokens: int = 0


class Probe:
    """Requests to one deployment. seconds: of each level."""

    def __init__(self, session: aiohttp.ClientSession, *, url: str, key: str, model: str, seconds: float) -> None:
        self._session = session
        self._url = f"{url.rstrip('/')}/v1/chat/completions"
        self._headers = {"authorization": f"Bearer {key}"}
        self._model = model
        self._seconds = seconds

    async def level(self, streams: int) -> Level:
        """Raises CannotAsk for the first request that fails."""
        began = time.perf_counter()
        tally = await self._closed_loop(streams, lambda: _words(_ANSWER), _ANSWER)
        ended = began + self._seconds
        counted = [at for at in tally.events if began + _RAMP * self._seconds <= at <= ended]
        per_event = tally.tokens / max(1, len(tally.events))
        return Level(
            streams=streams,
            requests=len(tally.firsts),
            decode_rate=per_event * len(counted) / ((1 - _RAMP) * self._seconds),
            ttft_p95=percentile_95(tally.firsts),
            tpot_p95=percentile_95(tally.gaps) if tally.gaps else 0.0,
        )

    async def prefill_rate(self) -> float:
        """Prompt tokens a second, of prompts that no cache holds."""
        words = await self._words_that_fit()
        began = time.perf_counter()
        tally = await self._closed_loop(_READERS, lambda: _words(words), 1)
        return tally.prompt_tokens / (time.perf_counter() - began)

    async def _words_that_fit(self) -> int:
        words = _PROMPT
        while True:
            try:
                await self._ask(_words(words), 1, _Tally())
                return words
            except _TooLong:
                words //= 2

    async def _closed_loop(self, streams: int, prompt: Callable[[], str], tokens: int) -> _Tally:
        tally, end = _Tally(), time.perf_counter() + self._seconds

        async def one() -> None:
            while time.perf_counter() < end:
                await self._ask(prompt(), tokens, tally)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(streams):
                    group.create_task(one())
        except ExceptionGroup as failed:  # all of them for the same reason
            raise failed.exceptions[0] from None
        return tally

    async def _ask(self, prompt: str, tokens: int, tally: _Tally) -> None:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
            # As many tokens as were asked for, of a model too that has nothing to say.
            "min_tokens": tokens,
            "ignore_eos": True,
        }
        sent, first, last, usage = time.perf_counter(), 0.0, 0.0, None
        async with self._session.post(self._url, json=body, headers=self._headers) as answer:
            if answer.status != 200:
                raise _failure(answer.status, await answer.read())
            async for line in answer.content:
                if not line.startswith(b"data: {"):
                    continue
                event = json.loads(line[6:])
                if "error" in event:
                    raise CannotAsk(f"an answer broke off: {event['error'].get('message', '')}")
                usage = event.get("usage") or usage
                if any(choice["delta"].get("content") for choice in event.get("choices", ())):
                    last = time.perf_counter()
                    first = first or last
                    tally.events.append(last)
        if not first or usage is None:
            raise CannotAsk("an answer had no text: a profile is of a model that answers chats")
        tally.firsts.append(first - sent)
        tally.tokens += usage["completion_tokens"]
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        tally.prompt_tokens += usage["prompt_tokens"] - cached
        if usage["completion_tokens"] > 1:
            tally.gaps.append((last - first) / (usage["completion_tokens"] - 1))


class _TooLong(CannotAsk):
    """The prompt does not fit the model."""


def _failure(status: int, body: bytes) -> CannotAsk:
    try:
        error: dict[str, Any] = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return CannotAsk(f"the server answered {status}")
    kind = _TooLong if error.get("code") == "context_length_exceeded" else CannotAsk
    return kind(f"the server answered {status}: {error.get('message', '')}")


def _words(count: int) -> str:
    """A prompt of so many words that begins like no other."""
    return " ".join([secrets.token_hex(4), *["and"] * (count - 1)])


async def levels(
    probe: Probe, *, most: int, ttft: float, tpot: float, on_level: Callable[[Level], None]
) -> list[Level]:
    """Twice as many streams each time, until they bring nothing more or `most` is reached; then, between the last that
    met the goals and the first that did not, one more. ttft, tpot: the goals in seconds.
    """
    found: list[Level] = []

    async def measure(streams: int) -> None:
        found.append(await probe.level(streams))
        on_level(found[-1])

    streams = 1
    while True:
        await measure(streams)
        before = found[-2].decode_rate if len(found) > 1 else 0.0
        is_full = found[-1].decode_rate < _LEAST_GAIN * before and not found[-1].meets(ttft, tpot)
        if is_full or streams >= most:
            break
        streams = min(2 * streams, most)
    good = max((one.streams for one in found if one.meets(ttft, tpot)), default=0)
    bad = min((one.streams for one in found if one.streams > good), default=0)
    if bad - good > 1:
        await measure((good + bad) // 2)
    return sorted(found, key=lambda one: one.streams)


def concurrency(measured: Collection[Level], *, ttft: float, tpot: float) -> int:
    """The most streams that met the goals; one, where even one did not."""
    return max((one.streams for one in measured if one.meets(ttft, tpot)), default=1)
