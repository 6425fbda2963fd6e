"""The ordinary caller, in a process of its own: `python -m loadtests.hostile.bystander < whom.json`.

Streams at a steady rate, whatever becomes of them, now and then a whole answer, /readyz and /v1/models. A line of JSON
for each as it ends. Before all others on the machine, as a client elsewhere would be, and every line says how late its
own clock was meanwhile: what a late client measures is itself.
"""

import asyncio
import contextlib
import json
import os
import secrets
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp

from loadtests.batches.chats import QUESTION

TICK_S = 0.01
PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One request. began, ended: time.monotonic, which all processes share. first: seconds to its first token, of a
    stream. failure: what was wrong with it, or nothing. late: seconds by which the caller itself was woken late.
    """

    kind: str
    began: float
    ended: float
    first: float | None
    failure: str
    late: float


class Bystander:
    def __init__(self, http: aiohttp.ClientSession, model: str) -> None:
        self._http = http
        self._model = model
        self._late: deque[tuple[float, float]] = deque(maxlen=round(PATIENCE_S * 2 / TICK_S))
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, rate: float) -> None:
        """Until it is cancelled. rate: streams a second."""
        clock = asyncio.create_task(self._watch_clock())
        due, number = time.monotonic(), 0
        while not clock.done():
            self._begin("stream", self._stream())
            if number % 8 == 0:
                self._begin("whole", self._whole())
            if number % 4 == 2:
                self._begin("readyz", self._get("/readyz"))
                self._begin("models", self._get("/v1/models"))
            number += 1
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _begin(self, kind: str, request: Any) -> None:
        task = asyncio.create_task(self._sample(kind, request))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _sample(self, kind: str, request: Any) -> None:
        began, first, failure = time.monotonic(), None, ""
        try:
            first = await asyncio.wait_for(request, PATIENCE_S)
        except TimeoutError:
            failure = f"nothing within {PATIENCE_S:.0f} s"
        except _Wrong as wrong:
            failure = str(wrong)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            failure = type(error).__name__
        ended = time.monotonic()
        seen = began + (first if first is not None else ended - began)
        late = max((late for at, late in self._late if began <= at <= seen + 2 * TICK_S), default=0.0)
        print(json.dumps(asdict(Sample(kind, began, ended, first, failure, late))), flush=True)

    async def _stream(self) -> float:
        body = self._body() | {"stream": True, "max_tokens": 24}
        began, first, line = time.monotonic(), None, b""
        # A connection of its own: a proxy that takes no more of them is noticed.
        async with self._http.post("/v1/chat/completions", json=body, headers={"connection": "close"}) as answer:
            _check(answer.status)
            async for line in answer.content:
                if first is None and line.startswith(b"data: {") and _has_content(line):
                    first = time.monotonic() - began
                if line.startswith(b"data: [DONE]"):
                    break
        if first is None or not line.startswith(b"data: [DONE]"):
            raise _Wrong("a stream that was cut" if first else "a stream without a token")
        return first

    async def _whole(self) -> None:
        async with self._http.post("/v1/chat/completions", json=self._body() | {"max_tokens": 8}) as answer:
            _check(answer.status)
            if not (await answer.json())["choices"][0]["message"]["content"]:
                raise _Wrong("an answer without content")

    async def _get(self, path: str) -> None:
        async with self._http.get(path) as answer:
            _check(answer.status)
            await answer.read()

    def _body(self) -> dict[str, Any]:
        # No head of a prompt comes twice: a prefix cache would hide what the engine is busy with.
        text = f"{secrets.token_hex(4)} {QUESTION}"
        return {"model": self._model, "messages": [{"role": "user", "content": text}]}

    async def _watch_clock(self) -> None:
        while True:
            due = time.monotonic() + TICK_S
            await asyncio.sleep(TICK_S)
            self._late.append((time.monotonic(), time.monotonic() - due))


class _Wrong(Exception):
    """What was wrong with an answer."""


def _check(status: int) -> None:
    if status != 200:
        raise _Wrong(f"status {status}")


def _has_content(line: bytes) -> bool:
    choices = json.loads(line.removeprefix(b"data: ")).get("choices")
    return bool(choices and choices[0]["delta"].get("content"))


async def _main(url: str, key: str, model: str, rate: float) -> None:
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=10)
    headers = {"authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(url, headers=headers, connector=connector, trust_env=False) as http:
        await Bystander(http, model).run(rate)


if __name__ == "__main__":
    with contextlib.suppress(AttributeError, PermissionError):  # else its clock will tell
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        asyncio.run(_main(**json.loads(sys.stdin.readline())))
