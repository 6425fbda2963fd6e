"""An answer in one piece under guard."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from serving.engines.engine import Tally
from serving.guards.guard import NOTHING, Guard, Verdict
from serving.guards.lookback import Lookback
from serving.guards.results import Results, merged
from serving.guards.texts import answer_in, texts_of
from serving.guards.wire import answer_of, indexed
from serving.protocol import sse
from serving.protocol.usage import ReportedUsage, usage_in


class GuardedWhole:
    """Reads an answer; `checked` is what may go out. Raises EngineFailed for what cannot be read."""

    def __init__(self, block: bytes, guards: Sequence[Guard]) -> None:
        self._answer = answer_of(block)
        self._guards = guards
        self.verdicts = [NOTHING] * len(guards)

    @property
    def tally(self) -> Tally:
        """What the engine says it has cost."""
        said = usage_in(self._answer.get("usage")) or ReportedUsage(0, 0, 0)
        return Tally(prompt=said.prompt or 0, cached=said.cached, completion=said.completion or 0)

    async def checked(self, prompt_results: Sequence[Results]) -> bytes:
        """The answer with what was found, and without the choices that are blocked. Raises GuardUnavailable."""
        answer = self._answer
        if self._guards:
            answer = answer | {"choices": [await self._choice(choice) for choice in answer["choices"]]}
        if prompt_results:
            answer = answer | {"prompt_filter_results": _beside(answer.get("prompt_filter_results"), prompt_results)}
        return sse.written(answer)

    async def _choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        verdicts = [NOTHING] * len(self._guards)
        try:
            await self._look_at(choice, verdicts)
        finally:
            self.verdicts = [old.with_(new) for old, new in zip(self.verdicts, verdicts, strict=True)]
        theirs = choice.get("content_filter_results")
        start: Results = theirs if isinstance(theirs, dict) else {}
        results = functools.reduce(merged, (verdict.results for verdict in verdicts), start)
        if any(verdict.blocks for verdict in verdicts):
            # A new one: log probabilities, token ids and tool calls hold the text too.
            empty = {"message": {"role": "assistant", "content": ""}} if "message" in choice else {"text": ""}
            choice = {"index": choice.get("index", 0), "logprobs": None, "finish_reason": "content_filter", **empty}
        return choice | {"content_filter_results": results}

    async def _look_at(self, choice: dict[str, Any], verdicts: list[Verdict]) -> None:
        """Fill in a verdict for each guard, until one blocks: the next may be a service elsewhere."""
        for _, text in texts_of(answer_in(choice)):
            for at, guard in enumerate(self._guards):
                lookback = Lookback(guard)
                try:
                    await lookback.feed(text)
                    if not lookback.verdict.blocks:
                        await lookback.pause()
                finally:
                    verdicts[at] = verdicts[at].with_(lookback.verdict)
                if verdicts[at].blocks:
                    return


def _beside(theirs: object, prompt_results: Sequence[Results]) -> list[dict[str, Any]]:
    """Ours, with what an engine elsewhere has found."""
    found = (
        {one.get("prompt_index"): one for one in theirs if isinstance(one, dict)} if isinstance(theirs, list) else {}
    )
    results = indexed(prompt_results)
    for one in results:
        other = found.get(one["prompt_index"], {}).get("content_filter_results")
        if isinstance(other, dict):
            one["content_filter_results"] = merged(other, one["content_filter_results"])
    return results
