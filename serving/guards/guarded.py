"""An engine with guards around it. Without guards it is not built at all, so that they cost nothing then."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from serving.engines.engine import Engine, EngineRequest, Tally
from serving.errors import ContentFiltered, EngineError
from serving.guards.guard import FAILED, NOTHING, Decision, Guard, GuardUnavailable, Stage, Verdict
from serving.guards.results import Results, merged
from serving.guards.stream import GuardedStream
from serving.guards.texts import is_large, prompts_of
from serving.guards.whole import GuardedWhole
from serving.guards.wire import opening

_UNRECKONED = 4096
OnDecision = Callable[[str, Stage, Decision], None]


class GuardedEngine:
    """An Engine. Raises ContentFiltered before the inner engine is asked, and GuardUnavailable.

    guards: in the order in which they are asked; the first that blocks is the last to be asked. on_decision: called
    with a guard's name, the stage and its decision, once for each request that it looked at.
    """

    def __init__(
        self, engine: Engine, guards: Sequence[Guard], on_decision: OnDecision = lambda guard, stage, decision: None
    ) -> None:
        self._engine = engine
        self._of_prompts = [guard for guard in guards if "prompt" in guard.stages]
        self._of_answers = [guard for guard in guards if "answer" in guard.stages]
        self._guards = guards
        self._on_decision = on_decision
        self._tallies: OrderedDict[str, Tally] = OrderedDict()
        """Of answers that ended here, not in the engine: it has been asked already, or has nothing to say."""

    async def answer(self, request: EngineRequest) -> AsyncGenerator[bytes, None]:
        found = await self._check_prompts(request)
        if request.operation == "embeddings":
            blocks = self._engine.answer(request)
        elif request.stream:
            blocks = self._streamed(request, found)
        else:
            blocks = self._whole(request, found)
        async with aclosing(blocks):
            async for block in blocks:
                yield block

    async def reckon(self, request_id: str) -> Tally | None:
        return self._tallies.pop(request_id, None) or await self._engine.reckon(request_id)

    def cut(self) -> None:
        self._engine.cut()

    async def ready(self) -> bool:
        return await self._engine.ready()

    async def close(self) -> None:
        await self._engine.close()
        for guard in self._guards:
            await guard.close()

    async def _check_prompts(self, request: EngineRequest) -> list[Results]:
        """What was found in each prompt; nothing where nobody looks."""
        found: list[Results] = []
        verdicts = [NOTHING] * len(self._of_prompts)
        try:
            for texts in await _prompts_of(request.body) if self._of_prompts else ():
                found.append({})
                for at, guard in enumerate(self._of_prompts):
                    try:
                        verdict = await guard.check_prompt(texts)
                    except GuardUnavailable:
                        verdicts[at] = verdicts[at].with_(FAILED)
                        self._note(request, Tally(prompt=0, cached=0, completion=0))
                        raise
                    verdicts[at] = verdicts[at].with_(verdict)
                    found[-1] = merged(found[-1], verdict.results)
                    if verdict.blocks:
                        raise ContentFiltered(found[-1])
        finally:
            self._decided("prompt", self._of_prompts, verdicts)
        return found

    async def _whole(self, request: EngineRequest, found: Sequence[Results]) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._engine.answer(request)) as blocks:
            async for block in blocks:
                if not self._of_answers and not found:
                    yield block
                    continue
                answer = GuardedWhole(block, self._of_answers)
                try:
                    checked = await answer.checked(found)
                except BaseException:  # it was generated and has its cost, though it does not go out
                    self._note(request, answer.tally)
                    raise
                finally:
                    self._decided("answer", self._of_answers, answer.verdicts)
                yield checked

    async def _streamed(self, request: EngineRequest, found: Sequence[Results]) -> AsyncGenerator[bytes, None]:
        first = opening(found)
        async with aclosing(self._engine.answer(request)) as blocks:
            if not self._of_answers:
                async for block in blocks:
                    yield first + block
                    first = b""
                return
            stream = GuardedStream(self._of_answers, expected=_choices_of(request.body))
            try:
                async for block in blocks:
                    if out := first + await stream.take(block):
                        yield out
                    first = b""
                    if stream.needless:
                        break
            except EngineError:
                # What came before it broke was answered: it goes out, as far as the guards let it.
                if not first and (rest := await stream.end()):
                    yield rest
                raise
            finally:
                self._decided("answer", self._of_answers, stream.verdicts())
        if stream.needless:
            self._note(request, stream.own_tally)  # should the client leave while the engine is asked
            tally = await self._engine.reckon(request.request_id) or stream.own_tally
            self._tallies.pop(request.request_id, None)
            yield stream.usage(tally)

    def _note(self, request: EngineRequest, tally: Tally) -> None:
        self._tallies[request.request_id] = tally
        while len(self._tallies) > _UNRECKONED:
            self._tallies.popitem(last=False)

    def _decided(self, stage: Stage, guards: Sequence[Guard], verdicts: Sequence[Verdict]) -> None:
        """A plain call: its caller may be cancelled."""
        for guard, verdict in zip(guards, verdicts, strict=False):
            if verdict is not NOTHING:  # else it was not asked
                self._on_decision(guard.name, stage, verdict.decision)


async def _prompts_of(body: dict[str, Any]) -> list[list[str]]:
    return await asyncio.to_thread(prompts_of, body) if is_large(body) else prompts_of(body)


def _choices_of(body: dict[str, Any]) -> int:
    """How many choices the answer has: `n` for each prompt."""
    prompt = body.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    return (body.get("n") or 1) * prompts
