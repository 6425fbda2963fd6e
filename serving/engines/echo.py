"""The echo engine: deterministic answers, set first-token and inter-token times, planned failures.

It ships with the product so that everything but a model's quality can be tried on a laptop: clients, limits, load
tests, failure drills. It repeats the words of the last message; a token is a word. It is never a claim about vLLM.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from serving.engines.engine import EngineRequest, Tally
from serving.errors import ContextTooLong, EngineFailed, EngineUnavailable
from serving.protocol import sse

_UNRECKONED = 4096


@dataclass(frozen=True, slots=True)
class PlannedFailure:
    """when: text in the last message that triggers it, "" for every request. after: tokens before it happens."""

    when: str
    action: Literal["refuse", "die", "stall"]
    after: int = 0


class EchoEngine:
    """An Engine. first_token and inter_token in seconds; `running` is the number of answers in progress."""

    def __init__(
        self,
        *,
        first_token: float = 0.0,
        inter_token: float = 0.0,
        max_model_len: int = 4096,
        failures: Sequence[PlannedFailure] = (),
    ) -> None:
        self._first_token = first_token
        self._inter_token = inter_token
        self._max_model_len = max_model_len
        self._failures = failures
        self._ended_early: OrderedDict[str, Tally] = OrderedDict()
        self.running = 0

    async def answer(self, request: EngineRequest) -> AsyncGenerator[bytes, None]:
        prompt = _prompt_of(request)
        words = prompt.split() or ["(nothing)"]
        failure = next((f for f in self._failures if f.when in prompt), None)
        if failure and failure.action == "refuse":
            raise EngineUnavailable(retry_after=1.0)
        limit = request.body.get("max_completion_tokens") or request.body.get("max_tokens") or len(words)
        if len(words) + limit > self._max_model_len:
            raise ContextTooLong(
                f"This model's maximum context length is {self._max_model_len} tokens. However, your request has "
                f"{len(words)} prompt tokens and asks for {limit}.",
                param="messages",
            )
        answer = _Answer(
            request, prompt_tokens=len(words), words=words[:limit], finish="length" if limit < len(words) else "stop"
        )
        self.running += 1
        generated = 0
        try:
            await asyncio.sleep(self._first_token)
            for position in range(len(answer.words)):
                if failure and position == failure.after:
                    await self._fail(failure)
                if position:
                    await asyncio.sleep(self._inter_token)
                generated = position + 1
                if request.stream:
                    yield answer.event(position)
            if request.stream:
                yield answer.finish_event() + answer.usage_event() + sse.DONE
            else:
                yield answer.whole()
        except BaseException:
            self._note(request, answer.prompt_tokens, generated)
            raise
        finally:
            self.running -= 1

    def _note(self, request: EngineRequest, prompt: int, generated: int) -> None:
        """Keep what an answer that ends early has cost: as in vLLM, a prompt counts with its first token."""
        self._ended_early[request.request_id] = Tally(
            prompt=prompt if generated else 0, cached=0, completion=generated * (request.body.get("n") or 1)
        )
        while len(self._ended_early) > _UNRECKONED:
            self._ended_early.popitem(last=False)

    async def reckon(self, request_id: str) -> Tally | None:
        return self._ended_early.pop(request_id, None)

    async def _fail(self, failure: PlannedFailure) -> None:
        if failure.action == "stall":
            await asyncio.Event().wait()
        raise EngineFailed if failure.after else EngineUnavailable(retry_after=1.0)

    async def ready(self) -> bool:
        return True

    async def close(self) -> None:
        return None


@dataclass(slots=True)
class _Answer:
    request: EngineRequest
    prompt_tokens: int
    words: list[str]
    finish: str

    def _envelope(self, choices: list[dict[str, Any]], suffix: str = "") -> dict[str, Any]:
        kind = {"chat": "chat.completion" + suffix, "completions": "text_completion"}[self.request.operation]
        prefix = {"chat": "chatcmpl", "completions": "cmpl"}[self.request.operation]
        return {
            "id": f"{prefix}-{self.request.request_id}",
            "object": kind,
            "created": int(time.time()),
            "model": self.request.body.get("model"),
            "choices": choices,
        }

    def _chunk(self, text: str | None, finish: str | None) -> bytes:
        choices = []
        for index in range(self.request.body.get("n") or 1):
            choice: dict[str, Any] = {"index": index, "logprobs": None, "finish_reason": finish}
            if self.request.operation == "chat":
                choice["delta"] = {} if text is None else {"content": text}
            else:
                choice["text"] = text or ""
            choices.append(choice)
        return sse.encode(self._envelope(choices, ".chunk"))

    def event(self, position: int) -> bytes:
        word = self.words[position] if position == 0 else " " + self.words[position]
        if position or self.request.operation == "completions":
            return self._chunk(word, None)
        role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        return sse.encode(self._envelope([role], ".chunk")) + self._chunk(word, None)

    def finish_event(self) -> bytes:
        return self._chunk(None, self.finish)

    def _usage(self) -> dict[str, int]:
        completion = len(self.words) * (self.request.body.get("n") or 1)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
        }

    def usage_event(self) -> bytes:
        return sse.encode(self._envelope([], ".chunk") | {"usage": self._usage()})

    def whole(self) -> bytes:
        choices = []
        for index in range(self.request.body.get("n") or 1):
            choice: dict[str, Any] = {"index": index, "logprobs": None, "finish_reason": self.finish}
            if self.request.operation == "chat":
                choice["message"] = {"role": "assistant", "content": " ".join(self.words)}
            else:
                choice["text"] = " ".join(self.words)
            choices.append(choice)
        return json.dumps(self._envelope(choices) | {"usage": self._usage()}).encode()


def _prompt_of(request: EngineRequest) -> str:
    if request.operation == "completions":
        prompt = request.body["prompt"]
        return prompt if isinstance(prompt, str) else " ".join(str(item) for item in prompt)
    content = request.body["messages"][-1].get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part if isinstance(part, str) else str(part.get("text", "")) for part in content)
