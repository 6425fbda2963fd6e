"""The echo engine's time: when each token comes, what fails and when, what an answer that ends early has cost."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal

from serving.engines.echo.answers import Answer, Line
from serving.engines.echo.embeddings import embeddings
from serving.engines.echo.load import Load
from serving.engines.echo.prompts import answer_to, called_in, has_more_words, prompts_of, tokens_of
from serving.engines.engine import EngineRequest, Tally
from serving.errors import ContextTooLong, EngineFailed, EngineUnavailable
from serving.scaling.meter import Meter
from serving.scaling.signals import ReplicaSignals

_UNRECKONED = 4096


@dataclass(frozen=True, slots=True)
class PlannedFailure:
    """when: text in the last message that triggers it, "" for every request. after: tokens before it happens."""

    when: str
    action: Literal["refuse", "die", "stall"]
    after: int = 0


class EchoEngine:
    """An Engine. first_token and inter_token in seconds; `running` is the number of answers in progress.

    slots, prefill_rate: see load.py; without them every request runs at once, and a prompt takes no time.
    """

    def __init__(
        self,
        *,
        first_token: float = 0.0,
        inter_token: float = 0.0,
        max_model_len: int = 4096,
        slots: int | None = None,
        prefill_rate: float | None = None,
        failures: Sequence[PlannedFailure] = (),
    ) -> None:
        self._first_token = first_token
        self._inter_token = inter_token
        self._max_model_len = max_model_len
        self._failures = failures
        self._ended_early: OrderedDict[str, Tally] = OrderedDict()
        self._is_cut = False
        self._load = Load(slots=slots, prefill_rate=prefill_rate)
        self._meter = Meter()

    @property
    def running(self) -> int:
        return self._load.running

    def signals(self) -> ReplicaSignals:
        """What a replica of this engine reports. There is no KV cache: slots stand for it."""
        load = self._load
        return self._meter.read(
            running=load.running, waiting=load.waiting, kv_cache=0.0, prefill_backlog=load.prefill_backlog
        )

    async def answer(self, request: EngineRequest) -> AsyncGenerator[bytes, None]:
        prompts = prompts_of(request)
        failure = next((f for f in self._failures if any(f.when in prompt for prompt in prompts)), None)
        if self._is_cut or (failure and failure.action == "refuse"):
            raise EngineUnavailable(retry_after=1.0)
        if request.operation == "embeddings":
            yield await self._embeddings(request, prompts, failure)
            return
        answer = self._answer_to(request, prompts)
        generated = 0
        try:
            came = time.monotonic()
            async with self._load.slot(answer.prompt_tokens):
                await self._prefill(answer.prompt_tokens)
                began = time.monotonic()
                self._meter.first_token(began - came)
                lead = answer.lead()
                for position in range(answer.steps):
                    if failure and position == failure.after:
                        await self._fail(failure)
                    if position:
                        await asyncio.sleep(self._inter_token)
                    if self._is_cut:
                        raise EngineFailed
                    generated = position + 1
                    self._meter.decoded(1)
                    if request.stream:
                        yield lead + answer.event(position)
                        lead = b""
                if generated > 1:
                    self._meter.per_token((time.monotonic() - began) / (generated - 1))
                yield lead + answer.end() if request.stream else answer.whole()
        except BaseException:
            self._note(answer, generated)
            raise

    async def _prefill(self, tokens: int) -> None:
        await asyncio.sleep(self._first_token)
        await self._load.prefill(tokens)
        self._meter.prefilled(tokens)

    async def _embeddings(self, request: EngineRequest, inputs: Sequence[str], failure: PlannedFailure | None) -> bytes:
        for text in inputs:
            self._check_words(text, "input")
        counts = [max(1, len(tokens_of(text))) for text in inputs]
        self._check_length(max(counts), 0, "input")
        async with self._load.slot(sum(counts)):
            await self._prefill(sum(counts))
            if failure:
                await self._fail(PlannedFailure(failure.when, failure.action))
            # Up to 2,048 vectors: half a second.
            return await asyncio.to_thread(embeddings, request, list(inputs), sum(counts))

    def _answer_to(self, request: EngineRequest, prompts: Sequence[str]) -> Answer:
        call, echoed, lines = called_in(request), request.operation == "completions" and request.body.get("echo"), []
        param = "messages" if request.operation == "chat" else "prompt"
        for text in prompts:
            self._check_words(text, param)
            prompt, answer = tokens_of(text), answer_to(text, request) if call is None else call[1]
            tokens = tokens_of(" " + answer if echoed and prompt else answer)
            limit = request.body.get("max_completion_tokens")
            limit = request.body.get("max_tokens") if limit is None else limit
            limit = len(tokens) if limit is None else limit
            self._check_length(max(1, len(prompt)), limit, param)
            finish = "length" if limit < len(tokens) else "stop" if call is None else "tool_calls"
            lines.append(Line(prompt, tokens[:limit], finish, call[0] if call else None, bool(echoed)))
        return Answer(request, lines)

    def _check_words(self, text: str, param: str) -> None:
        """Before anything is made of a text: it may be megabytes, and other requests wait meanwhile."""
        if has_more_words(text, 2 * self._max_model_len):
            raise ContextTooLong(
                f"This model's maximum context length is {self._max_model_len} tokens. However, your request has more "
                "than twice as many prompt tokens.",
                param=param,
            )

    def _check_length(self, prompt: int, limit: int, param: str) -> None:
        if prompt + limit > self._max_model_len:
            raise ContextTooLong(
                f"This model's maximum context length is {self._max_model_len} tokens. However, your request has "
                f"{prompt} prompt tokens and asks for {limit}.",
                param=param,
            )

    def _note(self, answer: Answer, generated: int) -> None:
        """Keep what an answer that ends early has cost: as in vLLM, a prompt counts with its first token."""
        self._ended_early[answer.request.request_id] = Tally(
            prompt=answer.prompt_tokens if generated else 0, cached=0, completion=answer.completion_tokens(generated)
        )
        while len(self._ended_early) > _UNRECKONED:
            self._ended_early.popitem(last=False)

    async def reckon(self, request_id: str) -> Tally | None:
        return self._ended_early.pop(request_id, None)

    def cut(self) -> None:
        self._is_cut = True

    async def _fail(self, failure: PlannedFailure) -> None:
        if failure.action == "stall":
            await asyncio.Event().wait()
        raise EngineFailed if failure.after else EngineUnavailable(retry_after=1.0)

    async def ready(self) -> bool:
        return True

    async def close(self) -> None:
        return None
