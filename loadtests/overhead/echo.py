"""An engine that costs nothing: an HTTP server with ready-made tokens, so that what stands before it is measured alone.

It answers as vLLM does, event for event. Its first token comes at once and then one in each step, for all streams in
the same moment, as from a batch on a GPU. (The product's own echo engine lives inside the gateway, so behind another
gateway it would measure that one twice.)

    python -m loadtests.overhead.echo --port 8001 --model echo --step-ms 10
"""

import argparse
import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import uvloop

ID = "chatcmpl-0123456789abcdef0123456789abcdef"
WORD = " note"
STEP_ENV = "CLINSERVE_BENCH_ECHO_STEP_MS"
"""Where ray_echo.py, which has no command line, finds the step."""
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


@dataclass(frozen=True)
class Frames:
    """The events of any answer. What differs between two answers is how often `token` comes, and the usage."""

    model: str

    @property
    def role(self) -> str:
        return self._event([self._choice({"role": "assistant", "content": ""})])

    @property
    def token(self) -> str:
        return self._event([self._choice({"content": WORD})])

    def end(self, tokens: int) -> str:
        stop = self._event([self._choice({}, "length")])
        return stop + self._event([], usage=self._usage(tokens)) + "data: [DONE]\n\n"

    def whole(self, tokens: int) -> dict[str, Any]:
        message = {"role": "assistant", "content": WORD * tokens}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}
        return self._envelope("chat.completion") | {"choices": [choice], "usage": self._usage(tokens)}

    def _event(self, choices: list[Any], **more: Any) -> str:
        event = self._envelope("chat.completion.chunk") | {"choices": choices} | more
        return f"data: {json.dumps(event, separators=(',', ':'))}\n\n"

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {"id": ID, "object": kind, "created": 1_700_000_000, "model": self.model}

    @staticmethod
    def _choice(delta: dict[str, str], finish: str | None = None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, "token_ids": None}

    @staticmethod
    def _usage(tokens: int) -> dict[str, int]:
        return {"prompt_tokens": 100, "completion_tokens": tokens, "total_tokens": 100 + tokens}


class Engine:
    """The clock of all streams: in each step, one token for each of them."""

    def __init__(self, model: str, step_s: float) -> None:
        self.frames = Frames(model)
        self.step_s = step_s
        self.token = chunk(self.frames.token)
        self.running: dict[asyncio.Transport, list[int]] = {}  # tokens of the answer, tokens left of it

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + self.step_s, loop.time())
            await asyncio.sleep(due - loop.time())
            self.step()

    def start(self, transport: asyncio.Transport, tokens: int) -> None:
        transport.write(HEAD + chunk(self.frames.role) + self.token)
        self.running[transport] = [tokens, tokens - 1]
        if tokens == 1:
            self._end(transport, tokens)

    def step(self) -> None:
        for transport, state in list(self.running.items()):
            state[1] -= 1
            transport.write(self.token)
            if state[1] <= 0:
                self._end(transport, state[0])

    def _end(self, transport: asyncio.Transport, tokens: int) -> None:
        del self.running[transport]
        transport.write(chunk(self.frames.end(tokens)) + b"0\r\n\r\n")


def chunk(text: str) -> bytes:
    data = text.encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


class Connection(asyncio.Protocol):
    """One client. It asks one thing at a time, as HTTP clients do that do not pipeline."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._unread = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._engine.running.pop(self._transport, None)

    def data_received(self, data: bytes) -> None:
        self._unread += data
        head, found, body = self._unread.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        if len(body) < length:
            return
        self._unread = body[length:]
        if head.startswith(b"GET "):
            self._send({"object": "list", "data": [{"id": self._engine.frames.model, "object": "model"}]})
            return
        self._answer(json.loads(body[:length]))

    def _answer(self, asked: dict[str, Any]) -> None:
        tokens = asked.get("max_completion_tokens") or asked.get("max_tokens") or 16
        if asked.get("stream"):
            self._engine.start(self._transport, tokens)
            return
        later = (tokens - 1) * self._engine.step_s
        asyncio.get_running_loop().call_later(later, self._send, self._engine.frames.whole(tokens))

    def _send(self, answer: dict[str, Any]) -> None:
        data = json.dumps(answer).encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(data)
        self._transport.write(head + data)


async def serve(port: int, model: str, step_s: float) -> None:
    engine = Engine(model, step_s)
    server = await asyncio.get_running_loop().create_server(partial(Connection, engine), "127.0.0.1", port)
    async with server:
        await engine.run()


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.overhead.echo", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--step-ms", type=float, default=10.0)
    options = parser.parse_args(words)
    try:
        uvloop.run(serve(options.port, options.model, options.step_ms / 1e3))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
