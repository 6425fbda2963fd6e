"""Guarded answers for tests: an engine that says set texts, and what a client makes of what it gets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from serving.engines.engine import Engine, EngineRequest
from serving.protocol import sse
from tests.local import Tree, chat, events

USAGE = {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}


def a_request(text: str = "hello", *, stream: bool = False, **fields: Any) -> EngineRequest:
    return EngineRequest("chat", chat(text, **fields), stream=stream, request_id="req_1", cache_salt="")


def said(*pieces: str, index: int = 0, finish: str | None = "stop", **beside: Any) -> list[bytes]:
    """The events of one choice of a chat: its role, a piece each, its end."""
    deltas: list[Tree] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces)]
    out = [chunk({"index": index, "delta": delta, "finish_reason": None, **beside}) for delta in deltas]
    return [*out, chunk({"index": index, "delta": {}, "finish_reason": finish})]


def chunk(*choices: Tree) -> bytes:
    envelope = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
    return b"data: " + json.dumps({**envelope, "choices": choices}).encode() + b"\n\n"


def ended() -> bytes:
    return sse.encode({"id": "chatcmpl-1", "choices": [], "usage": USAGE}) + sse.DONE


def whole(*texts: str, **fields: Any) -> bytes:
    """A whole chat answer, a choice for each text."""
    choices = [
        {"index": at, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for at, text in enumerate(texts)
    ]
    return json.dumps({"id": "chatcmpl-1", "object": "chat.completion", "choices": choices, "usage": USAGE}).encode()


async def streamed(engine: Engine, **fields: Any) -> list[Any]:
    """What the events of a stream hold; the last is `[DONE]`."""
    return events(b"".join([block async for block in engine.answer(a_request(stream=True, **fields))]))


async def answered(engine: Engine, text: str = "hello", **fields: Any) -> Tree:
    (block,) = [block async for block in engine.answer(a_request(text, **fields))]
    answer: Tree = json.loads(block)
    return answer


def text_of(payloads: Sequence[Any], index: int = 0, name: str = "content") -> str:
    return "".join(choice["delta"].get(name) or "" for choice in choices_of(payloads, index) if "delta" in choice)


def choices_of(payloads: Sequence[Any], index: int = 0) -> list[Tree]:
    all_of = [choice for payload in payloads if isinstance(payload, dict) for choice in payload["choices"]]
    return [choice for choice in all_of if choice["index"] == index]
