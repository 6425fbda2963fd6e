"""Keyed digests of prompts and answers for the audit log: they prove a text that is at hand, and tell nothing else.

A prompt's is over the JSON of its `messages`, `prompt` or `input`, an answer's over the text of each choice: content,
then the names and arguments of tool calls. It is the same whether the answer was streamed or whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pydantic_core import from_json, to_json

from serving.protocol import sse

_MOST_CHOICES = 1024  # that have a digest; more than any request may ask for


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

    @property
    def size(self) -> int:
        """Bytes of text that were taken in."""
        ...


class NoDigests:
    """Digests that are off, and free."""

    size = 0

    def events(self, block: bytes) -> None: ...
    def whole(self, answer: dict[str, Any]) -> None: ...

    def answers(self) -> list[str]:
        return []


class AnswerDigests:
    """Some 4 µs an event: parsing it is most of that."""

    def __init__(self, digester: Callable[[], Digester]) -> None:
        self._digester = digester
        self._choices: dict[int, Digester] = {}
        self.size = 0

    def events(self, block: bytes) -> None:
        for event in sse.events_in(block):
            if not event.startswith(b"data: {"):
                continue
            try:
                payload = from_json(event[6:])
            except ValueError:
                continue  # not ours to judge here: it is passed on as it is
            for choice in choices_in(payload):
                self._add(choice)

    def whole(self, answer: dict[str, Any]) -> None:
        for choice in choices_in(answer):
            self._add(choice)

    def answers(self) -> list[str]:
        return [self._choices[index].hexdigest() for index in sorted(self._choices)]

    def _add(self, choice: dict[str, Any]) -> None:
        index = choice.get("index") or 0
        if not isinstance(index, int) or not 0 <= index < _MOST_CHOICES:
            return
        if index not in self._choices:
            self._choices[index] = self._digester()
        if text := text_in(choice).encode(errors="surrogatepass"):
            self._choices[index].update(text)
            self.size += len(text)


def choices_in(answer: object) -> list[dict[str, Any]]:
    """Those that are what they should be: an engine elsewhere may send anything."""
    choices = answer.get("choices") if isinstance(answer, dict) else None
    return [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []


def text_in(choice: dict[str, Any]) -> str:
    """The text of a choice, or of a stream's piece of one: content, then names and arguments of tool calls."""
    said = choice.get("delta") or choice.get("message")
    message: dict[str, Any] = said if isinstance(said, dict) else {}
    texts = [choice.get("text") or message.get("content")]
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            texts += [function.get("name"), function.get("arguments")]
    return "".join([text for text in texts if isinstance(text, str)])


def prompt_bytes(body: dict[str, Any]) -> bytes:
    """What a prompt's digest is over."""
    return to_json(next((body[name] for name in ("messages", "prompt", "input") if name in body), None))
