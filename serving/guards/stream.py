"""A streamed answer under guard: each choice for itself, then the usage, as Azure sends it (azure-wire-format, 1.5)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from serving.engines.engine import Tally
from serving.guards.choice import GuardedChoice
from serving.guards.guard import NOTHING, Guard, Verdict
from serving.guards.wire import answer_of
from serving.protocol import sse


class GuardedStream:
    """expected: how many choices the answer has. told: its usage has gone out."""

    def __init__(self, guards: Sequence[Guard], expected: int) -> None:
        self._guards = guards
        self._expected = expected
        self._choices: dict[int, GuardedChoice] = {}
        self._envelope: dict[str, Any] = {}
        self._events = 0
        self.told = False

    @property
    def needless(self) -> bool:
        """Every choice is over, and the engine still works on one that is blocked."""
        choices = self._choices.values()
        return (
            not self.told
            and len(choices) >= self._expected
            and all(choice.blocked or choice.finished for choice in choices)
            and not all(choice.finished for choice in choices)
        )

    async def take(self, block: bytes) -> bytes:
        """What may go out, now that these events have come. Raises EngineFailed for what cannot be read."""
        return b"".join([out for event in sse.events_in(block) for out in await self._take(event)])

    async def end(self) -> bytes:
        """What still waits, now that nothing follows."""
        return b"".join([out for choice in self._choices.values() for out in await choice.end()])

    @property
    def own_tally(self) -> Tally:
        """An estimate from what came: a token an event."""
        return Tally(prompt=0, cached=0, completion=self._events)

    def usage(self, tally: Tally) -> bytes:
        """The usage of an answer that was cut, and the end."""
        usage: dict[str, Any] = {
            "prompt_tokens": tally.prompt,
            "completion_tokens": tally.completion,
            "total_tokens": tally.prompt + tally.completion,
            "prompt_tokens_details": {"cached_tokens": tally.cached},
        }
        return sse.encode({**self._envelope, "choices": [], "usage": usage}) + sse.DONE

    def verdicts(self) -> list[Verdict]:
        """One for each guard."""
        of_choices = zip(*(choice.verdicts() for choice in self._choices.values()), strict=True)
        return [functools.reduce(Verdict.with_, verdicts, NOTHING) for verdicts in of_choices]

    async def _take(self, event: bytes) -> list[bytes]:
        if event == sse.DONE:
            return [await self.end(), event]
        payload = answer_of(event.removeprefix(b"data:"))
        choices = payload["choices"]
        if not choices:
            self.told = self.told or isinstance(payload.get("usage"), dict)
            return [await self.end() if self.told else b"", event]
        self._events += 1
        self._envelope = {name: payload[name] for name in ("id", "object", "created", "model") if name in payload}
        return [out for choice in choices for out in await self._choice(choice).take(payload | {"choices": [choice]})]

    def _choice(self, choice: dict[str, Any]) -> GuardedChoice:
        index = choice.get("index", 0)
        if index not in self._choices:
            self._choices[index] = GuardedChoice(self._guards)
        return self._choices[index]
