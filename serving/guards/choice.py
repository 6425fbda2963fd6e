"""One choice of a stream under guard: its events wait until the guards have cleared their text."""

from __future__ import annotations

import functools
import operator
from collections import deque
from collections.abc import Sequence
from typing import Any

from serving.errors import EngineFailed
from serving.guards.guard import NOTHING, Guard, Verdict
from serving.guards.lookback import Lookback
from serving.guards.results import Results, merged
from serving.guards.texts import answer_in, texts_of
from serving.protocol import sse

_MAX_WAITING = 16_384
"""Events. What waits is bounded by characters; this is for an engine that sends events without any."""


class GuardedChoice:
    """The texts of a choice, each with its own look-behind for each guard; events go out whole and in their order.

    A text that another follows (reasoning, then content, then a tool call) is taken to have ended. Should it go on,
    what came before is still known: what is sent never holds a match, though its first part may have gone.
    finished: the engine has said so. blocked: a guard has.
    """

    def __init__(self, guards: Sequence[Guard]) -> None:
        self._guards = guards
        self._texts: dict[str, list[Lookback]] = {}
        self._ends: dict[str, int] = {}
        self._open: set[str] = set()
        self._waiting: deque[tuple[dict[str, Any], dict[str, int]]] = deque()
        self._results = _Results()
        self._last: dict[str, Any] = {}
        self.finished = False
        self.blocked = False

    async def take(self, event: dict[str, Any]) -> list[bytes]:
        """The events that may go out, now that this one has come. event: with this choice alone."""
        choice = event["choices"][0]
        self.finished = self.finished or choice.get("finish_reason") is not None
        if self.blocked:
            return []
        self._last = event
        texts = dict(texts_of(answer_in(choice)))
        if texts:
            await self._pause(self._open - texts.keys())
            self._open = set(texts)
        for path, text in texts.items():
            self._ends[path] = self._ends.get(path, 0) + len(text)
            await self._feed(path, text)
        self._waiting.append((event, {path: self._ends[path] for path in texts}))
        if len(self._waiting) > _MAX_WAITING:
            raise EngineFailed
        if self.finished:
            await self._pause(self._open)
        return self._released()

    async def end(self) -> list[bytes]:
        """The events that still wait, now that nothing follows."""
        if self.blocked:
            return []
        await self._pause(self._open)
        return self._released()

    def verdicts(self) -> list[Verdict]:
        """One for each guard."""
        return [
            functools.reduce(Verdict.with_, (lookbacks[at].verdict for lookbacks in self._texts.values()), NOTHING)
            for at in range(len(self._guards))
        ]

    async def _feed(self, path: str, text: str) -> None:
        """Guard by guard, until one blocks: the next may be a service elsewhere."""
        if path not in self._texts:
            self._texts[path] = [Lookback(guard) for guard in self._guards]
        for lookback in self._texts[path]:
            if not self._is_blocked():
                await lookback.feed(text)

    async def _pause(self, paths: set[str]) -> None:
        for path in paths:
            for lookback in self._texts[path]:
                if not self._is_blocked():
                    await lookback.pause()

    def _is_blocked(self) -> bool:
        return any(lookback.verdict.blocks for lookbacks in self._texts.values() for lookback in lookbacks)

    def _released(self) -> list[bytes]:
        released = []
        self.blocked = self._is_blocked()
        while self._waiting and self._is_clear(self._waiting[0][1]):
            event, ends = self._waiting.popleft()
            choice = event["choices"][0]
            if ends or choice.get("finish_reason") is not None:
                event = event | {"choices": [choice | {"content_filter_results": self._results_beside(choice)}]}
            released.append(sse.encode(event))
        if self.blocked:
            self._waiting.clear()
            released.append(sse.encode(self._blocking(self._last)))
        return released

    def _is_clear(self, ends: dict[str, int]) -> bool:
        return all(end <= lookback.cleared for path, end in ends.items() for lookback in self._texts[path])

    def _blocking(self, event: dict[str, Any]) -> dict[str, Any]:
        """The last event of a choice that is blocked, in the envelope of another."""
        choice = event["choices"][0]
        last: dict[str, Any] = {"index": choice.get("index", 0), "logprobs": None, "finish_reason": "content_filter"}
        empty: dict[str, Any] = {"text": ""} if "text" in choice else {"delta": {}}
        envelope = {name: event[name] for name in ("id", "object", "created", "model") if name in event}
        return envelope | {"choices": [last | empty | {"content_filter_results": self._results_beside(choice)}]}

    def _results_beside(self, choice: dict[str, Any]) -> Results:
        """What was found here, with what an engine elsewhere has found."""
        theirs = choice.get("content_filter_results")
        ours = self._results.of([lookback.verdict for lookbacks in self._texts.values() for lookback in lookbacks])
        return merged(theirs, ours) if isinstance(theirs, dict) else ours


class _Results:
    """The verdicts' results as one, remembered: they are written into each event and seldom change."""

    def __init__(self) -> None:
        self._verdicts: list[Verdict] = []
        self._merged: Results = {}

    def of(self, verdicts: list[Verdict]) -> Results:
        if len(verdicts) != len(self._verdicts) or any(map(operator.is_not, verdicts, self._verdicts)):
            self._verdicts = verdicts
            self._merged = functools.reduce(merged, (verdict.results for verdict in verdicts), {})
        return self._merged
