"""Server-sent events as OpenAI sends them: `data: {json}` and a blank line, LF only, the last one `data: [DONE]`.

Strict parsers (azure-ai-inference) fail on comments, CRLF and `event:` lines, so we write none of them, but for the
events of the Responses API, which have a name each (`named`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

DONE = b"data: [DONE]\n\n"
END = b"\n\n"
LONGEST_EVENT = 16 * 2**20
FINISH_REASONS = frozenset({
    "stop", "length", "tool_calls", "content_filter", "function_call",  # OpenAI's
    "eos_token", "stop_sequence",  # TGI's
    "model_length",  # Mistral's
})  # fmt: skip
"""With these a choice says that it has ended. An empty one, or one that nobody knows, says nothing."""


def _refuse(constant: str) -> None:
    raise ValueError("a number is none")


_JSON = json.JSONDecoder(parse_constant=_refuse)


class EventCutter:
    """Turns bytes as they arrive into blocks that end with a whole event.

    The usual read already does and passes untouched. What follows the last blank line waits for its rest, so that
    a stream that breaks can be ended with an error event between events, never inside one.
    """

    __slots__ = ("_rest",)
    broken: ClassVar[bool] = False

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The whole events in what has arrived so far: none (b"") up to many."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if data.endswith(END):
            return data
        end = data.rfind(END) + len(END)
        if end < len(END):
            self._rest = data
            return b""
        self._rest = data[end:]
        return data[:end]

    def end(self) -> bytes:
        """What is still to come when the bytes have ended well: nothing, for an event without its end is none."""
        return b""


class ForeignEventCutter:
    """The same for endpoints that are not ours: their events come out as we write them.

    Reads the whole grammar of https://html.spec.whatwg.org/multipage/server-sent-events.html (line ends, comments, a
    byte order mark, fields without a space or a colon, several data lines). An event is passed on as its JSON object in
    one `data` line; one that holds an error, or is named `error`, comes out as that error alone. `[DONE]` ends the
    stream: after it nothing comes. A stream without it gets one at its end if all `answers` choices said by then that
    they had finished (FINISH_REASONS): else it was cut off. Our replicas do not go through it.

    One leniency: an event without its blank line counts at the end of the bytes, if it is whole; the grammar drops it.
    """

    __slots__ = ("_after_cr", "_answers", "_begun", "_done", "_finished", "_rest", "broken")

    def __init__(self, answers: int = 1) -> None:
        self.broken = False
        self._rest = b""
        self._after_cr = False
        self._begun = False
        self._done = False
        self._answers = answers
        self._finished: set[int] = set()

    def feed(self, data: bytes) -> bytes:
        """As EventCutter's. Raises ValueError for an event that is no JSON object, or above LONGEST_EVENT bytes; after
        good events it gives these first, and is `broken`.
        """
        whole, _, self._rest = (self._rest + self._with_line_feeds(data)).rpartition(END)
        if len(self._rest) > LONGEST_EVENT:
            raise ValueError("an event is too long")
        events: list[bytes] = []
        for event in whole.split(END) if whole else ():
            try:
                events.append(self._rewritten(event))
            except ValueError:
                if not any(events):
                    raise
                self.broken = True
                break
        return b"".join(events)

    def end(self) -> bytes:
        """What is still to come when the bytes have ended well: an event without its blank line, a missing `[DONE]`."""
        last, self._rest = self._rest, b""
        last = self._rewritten(last) if _is_whole(last) else b""
        if self._done or len(self._finished) < self._answers:
            return last
        self._done = True
        return last + DONE

    def _with_line_feeds(self, data: bytes) -> bytes:
        """CRLF and CR as LF. A CR at the end counts at once; the LF that may follow it in the next read does not."""
        if self._after_cr:
            data = data.removeprefix(b"\n")
        if not data:
            return data
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data

    def _rewritten(self, event: bytes) -> bytes:
        if self._done:
            return b""
        if not self._begun:
            self._begun, event = True, event.removeprefix(b"\xef\xbb\xbf")
        name, body = _fields_of(event)
        if not body:
            return b""
        if body == b"[DONE]":
            self._done = True
            return DONE
        value = _object_in(body)
        if name == b"error" or value.get("error"):
            return encode({"error": _error_in(value)})
        self._note_finished(value.get("choices"))
        return b"data: " + body + END

    def _note_finished(self, choices: object) -> None:
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and _is_end(choice.get("finish_reason")):
                index = choice.get("index", 0)
                self._finished.add(index if isinstance(index, int) else 0)


def _is_end(reason: object) -> bool:
    return isinstance(reason, str) and reason in FINISH_REASONS


def _fields_of(event: bytes) -> tuple[bytes, bytes]:
    """An event's name and its data. Its lines become one: between the parts of a JSON text a space is as good."""
    name, data = b"", []
    for line in event.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ")
    return name, b" ".join(data).strip()


def _is_whole(event: bytes) -> bool:
    """Has an event without its blank line come to its end? Else it was cut off."""
    body = _fields_of(event)[1]
    try:
        return body == b"[DONE]" or bool(_object_in(body))
    except ValueError:
        return False


def _object_in(body: bytes) -> dict[str, Any]:
    """Raises ValueError for anything but a JSON object; NaN is JSON to Python, and to no client in a browser."""
    try:
        value = _JSON.decode(body.decode())
    except RecursionError:
        raise ValueError("an event is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("an event is no JSON object")
    return value


def _error_in(event: dict[str, Any]) -> dict[str, Any]:
    """The error that an event is about: below `error`, or the event itself."""
    error = event.get("error") or event
    return error if isinstance(error, dict) else {}


def events_in(block: bytes) -> Iterator[bytes]:
    """The events of a block, each with its blank line."""
    for event in block.split(END):
        if event:
            yield event + END


def payload_of(event: bytes) -> dict[str, Any] | None:
    """The JSON object of an event; None for `[DONE]`."""
    body = event.removeprefix(b"data:").strip()
    value = None if body == b"[DONE]" else json.loads(body)
    return value if isinstance(value, dict) else None


def written(payload: object) -> bytes:
    """As compact JSON. JSON can hold half a surrogate, UTF-8 cannot: then in ASCII."""
    try:
        return json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(payload, separators=(",", ":")).encode()


def encode(payload: object) -> bytes:
    """One event with `payload` as compact JSON."""
    return b"data: " + written(payload) + END


def named(payload: dict[str, Any]) -> bytes:
    """One event of the Responses API; its name is also the payload's `type`."""
    return b"event: " + str(payload["type"]).encode() + b"\n" + encode(payload)
