"""Streams against a server, each with what became of it. The words of a prompt come back, so its length is known."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import aiohttp

from loadtests.client import retry_after_of
from loadtests.sse import Reading

Outcome = Literal["ok", "inexact", "error event", "cut", "refused", "unreachable"]
"""inexact: whole, but with other counts than it has words. cut: neither [DONE] nor an error event."""


@dataclass(frozen=True, slots=True)
class Ended:
    """began, first, ended: seconds on the run's clock; first: of its first token. request_id: the server's."""

    outcome: Outcome
    status: int
    request_id: str
    began: float
    first: float | None
    ended: float
    seen: int
    counted: int
    retry_after: float | None = None


class Streams:
    """Asks for streams of so many words and collects their ends, in the order in which they ended."""

    def __init__(self, http: aiohttp.ClientSession, model: str, now: Callable[[], float]) -> None:
        self._http = http
        self._model = model
        self.now = now
        self._running: set[asyncio.Task[None]] = set()
        self.begun = 0
        self.ended: list[Ended] = []

    @property
    def running(self) -> int:
        return len(self._running)

    def begin(self, words: int) -> None:
        """One more, from now on."""
        self.begun += 1
        task = asyncio.create_task(self._run(words))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def steadily(self, words: int, *, rate: float, until: asyncio.Event) -> None:
        """`rate` new ones a second, whatever becomes of the others."""
        due = self.now()
        while not until.is_set():
            self.begin(words)
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - self.now()))

    async def always(self, count: int, words: int, *, ramp: float, until: asyncio.Event) -> None:
        """So many at a time: one more whenever one ends. ramp: seconds in which the first ones begin."""
        for _ in range(count):
            self.begin(words)
            await asyncio.sleep(ramp / count)
        while not until.is_set():
            for _ in range(count - self.running):
                self.begin(words)
            await asyncio.sleep(0.1)

    async def all_ended(self) -> Sequence[Ended]:
        while self._running:
            await asyncio.wait(set(self._running))
        return self.ended

    async def _run(self, words: int) -> None:
        began, status, request_id, reading, retry_after = self.now(), 0, "", Reading(), None
        outcome: Outcome = "unreachable"
        text = " ".join(f"w{number}" for number in range(words))
        body = {"model": self._model, "messages": [{"role": "user", "content": text}], "stream": True}
        body |= {"stream_options": {"include_usage": True}}
        try:
            async with self._http.post("/v1/chat/completions", json=body) as answer:
                status, request_id = answer.status, answer.headers.get("x-request-id", "")
                outcome, retry_after = ("cut" if status == 200 else "refused"), retry_after_of(answer.headers)
                if status == 200:
                    async for line in answer.content:
                        reading.line(line, self.now())
        except (aiohttp.ClientError, OSError, TimeoutError):
            pass
        if status == 200:
            outcome = _outcome(reading, words)
        ended = Ended(
            outcome,
            status,
            request_id,
            began,
            reading.first,
            self.now(),
            seen=reading.frames,
            counted=reading.answer_tokens,
            retry_after=retry_after,
        )
        self.ended.append(ended)


def _outcome(reading: Reading, words: int) -> Outcome:
    if reading.error:
        return "error event"
    if not reading.done:
        return "cut"
    return "ok" if reading.whole and reading.frames == reading.answer_tokens == words else "inexact"


@asynccontextmanager
async def streams(url: str, key: str, model: str, *, patience: float = 600.0) -> AsyncGenerator[Streams, None]:
    """On connections of their own, so that one that is cut takes no other with it. patience: of a client, seconds."""
    zero = time.perf_counter()
    timeout = aiohttp.ClientTimeout(total=patience)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(
        url, headers=headers, connector=connector, timeout=timeout, trust_env=False
    ) as http:
        yield Streams(http, model, lambda: time.perf_counter() - zero)
