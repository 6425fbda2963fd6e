"""Keyed digests of prompts and answers for the audit log: they prove a text that is at hand, and tell nothing else.

A prompt's is over the JSON of its `messages`, `prompt` or `input`, an answer's over the text of each choice: content,
then the names and arguments of tool calls. It is the same whether the answer was streamed or whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pydantic_core import from_json, to_json

from serving.protocol import sse


class Digester(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def hexdigest(self) -> str: ...


class Digests(Protocol):
    """The digests of one request."""

    def events(self, block: bytes) -> None:
        """Take in events of a stream as they pass."""
        ...

    def whole(self, answer: dict[str, Any]) -> None:
        """Take in an answer in one piece."""
        ...

    def answers(self) -> list[str]:
        """hex, in the order of the choices; of what has passed so far."""
        ...


class NoDigests:
    """Digests that are off, and free."""

    def events(self, block: bytes) -> None: ...
    def whole(self, answer: dict[str, Any]) -> None: ...

    def answers(self) -> list[str]:
        return []


class AnswerDigests:
    """Some 4 µs an event: parsing it is most of that."""

    def __init__(self, digester: Callable[[], Digester]) -> None:
        self._digester = digester
        self._choices: dict[int, Digester] = {}

    def events(self, block: bytes) -> None:
        for event in sse.events_in(block):
            if not event.startswith(b"data: {"):
                continue
            try:
                payload = from_json(event[6:])
            except ValueError:
                continue  # not ours to judge here: it is passed on as it is
            for choice in _choices_in(payload):
                self._add(choice, choice.get("delta") or {})

    def whole(self, answer: dict[str, Any]) -> None:
        for choice in _choices_in(answer):
            self._add(choice, choice.get("message") or {})

    def answers(self) -> list[str]:
        return [self._choices[index].hexdigest() for index in sorted(self._choices)]

    def _add(self, choice: dict[str, Any], message: dict[str, Any]) -> None:
        text = f"{choice.get('text') or message.get('content') or ''}"
        for call in message.get("tool_calls") or ():
            function = call.get("function") or {}
            text += f"{function.get('name') or ''}{function.get('arguments') or ''}"
        index = choice.get("index", 0)
        if index not in self._choices:
            self._choices[index] = self._digester()
        if text:
            self._choices[index].update(text.encode(errors="surrogatepass"))


def _choices_in(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that are what they should be: an engine elsewhere may send anything."""
    return [choice for choice in answer.get("choices") or () if isinstance(choice, dict)]


def prompt_bytes(body: dict[str, Any]) -> bytes:
    """What a prompt's digest is over."""
    return to_json(next((body[name] for name in ("messages", "prompt", "input") if name in body), None))
