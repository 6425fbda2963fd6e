"""Reads one answer as its lines come: when the first text came, the gaps, and whether it was whole and in order.

The caller gives each line with the time at which it was there; nothing here touches a socket or a clock.
"""

import json
from dataclasses import dataclass, field
from typing import Any

TEXT_FIELDS = ("content", "reasoning_content", "reasoning")


@dataclass
class Reading:
    """keep_text: whether the answer is kept, which a conversation's next turn needs."""

    keep_text: bool = False
    first: float | None = None
    last: float | None = None
    frames: int = 0
    gaps: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    answer_tokens: int = 0
    done: bool = False
    error: bool = False
    faults: list[str] = field(default_factory=list)
    _text: list[str] = field(default_factory=list)
    _finished: bool = False

    @property
    def text(self) -> str:
        return "".join(self._text)

    @property
    def whole(self) -> bool:
        """Text, a finish reason, usage, `[DONE]`: all there, in this order."""
        return self.done and not self.error and not self.faults

    def line(self, line: bytes, now: float) -> None:
        """Take one line of the stream; lines that are no data are passed over."""
        if not line.startswith(b"data:"):
            return
        payload = line[5:].strip()
        if self.done:
            self.faults.append("an event after [DONE]")
        elif payload == b"[DONE]":
            self.done = True
            if not self.answer_tokens and not self.error:
                self.faults.append("no usage before [DONE]")
            if not self._finished and not self.error:
                self.faults.append("no finish_reason before [DONE]")
        else:
            self._event(payload, now)

    def _event(self, payload: bytes, now: float) -> None:
        try:
            event = json.loads(payload)
            if "error" in event:
                self.error = True
                return
            usage = event.get("usage")
            if usage:
                self.prompt_tokens = usage.get("prompt_tokens") or 0
                self.answer_tokens = usage.get("completion_tokens") or 0
            text = ""
            for choice in event.get("choices") or ():
                text += text_of(choice)
                self._finished = self._finished or choice.get("finish_reason") is not None
        except (ValueError, AttributeError, TypeError):
            self.faults.append("an event that is not a chunk")
            return
        if text:
            self._piece(text, now)

    def _piece(self, text: str, now: float) -> None:
        self.frames += 1
        if self.first is None or self.last is None:
            self.first = now
        else:
            self.gaps.append(now - self.last)
        self.last = now
        if self.keep_text:
            self._text.append(text)


def text_of(choice: dict[str, Any]) -> str:
    """The text in a chunk's choice; "" when it holds a role, an end, or nothing."""
    delta = choice.get("delta")
    if delta is None:
        return choice.get("text") or ""
    for name in TEXT_FIELDS:
        if delta.get(name):
            return str(delta[name])
    calls = delta.get("tool_calls") or ()
    return "".join((call.get("function") or {}).get("arguments") or "" for call in calls)
