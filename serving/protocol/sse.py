"""Server-sent events as OpenAI sends them: `data: {json}` and a blank line, LF only, the last one `data: [DONE]`.

Strict parsers (azure-ai-inference) fail on comments, CRLF and `event:` lines, so we write none of them, but for the
events of the Responses API, which have a name each (`named`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

DONE = b"data: [DONE]\n\n"
END = b"\n\n"
LONGEST_EVENT = 16 * 2**20
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"').search


class EventCutter:
    """Turns bytes as they arrive into blocks that end with a whole event.

    The usual read already does and passes untouched. What follows the last blank line waits for its rest, so that
    a stream that breaks can be ended with an error event between events, never inside one.
    """

    __slots__ = ("_rest",)

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

    CRLF becomes LF; comments (keep-alives) and fields other than `data` go; `data:{` gets its space; several data lines
    become one. An event that holds an error, wherever in it, comes out as that error alone. After `[DONE]`, also when
    spaces follow it, nothing comes. A stream without it gets one at its end if `answers` choices had finished by then:
    else it was cut off. Costs about as much as the gateway's own look at an event; our replicas do not go through it.
    """

    __slots__ = ("_done", "_rest", "_unfinished")

    def __init__(self, answers: int = 1) -> None:
        self._rest = b""
        self._done = False
        self._unfinished = answers

    def feed(self, data: bytes) -> bytes:
        """As EventCutter's. Raises ValueError for an event above LONGEST_EVENT bytes."""
        data = self._rest + data
        # A CR at the end may be the first half of a line's end.
        kept = data[-1:] if data.endswith(b"\r") else b""
        if b"\r" in data:
            data = data.removesuffix(kept).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        whole, _, rest = data.rpartition(END)
        self._rest = rest + kept
        if len(self._rest) > LONGEST_EVENT:
            raise ValueError("an event is too long")
        return b"".join([self._rewritten(event) for event in whole.split(END)]) if whole else b""

    def end(self) -> bytes:
        """What is still to come when the bytes have ended well: an event without its blank line, a missing `[DONE]`."""
        last, self._rest = self._rest.replace(b"\r", b"\n"), b""
        last = self._rewritten(last) if _is_whole(last) else b""
        if self._done or self._unfinished > 0:
            return last
        self._done = True
        return last + DONE

    def _rewritten(self, event: bytes) -> bytes:
        if self._done:
            return b""
        body = _data_of(event)
        if not body:
            return b""
        if body.startswith(b"[DONE]"):
            self._done = True
            return DONE
        if b'"error"' in body and (error := _error_in(body)) is not None:
            return encode({"error": error})
        if _FINISHED(body):
            self._unfinished -= 1
        return b"data: " + body + END


def _data_of(event: bytes) -> bytes:
    return b" ".join([line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")])


def _is_whole(event: bytes) -> bool:
    """Has an event without its blank line come to its end? Else it was cut off."""
    data = _data_of(event)
    try:
        return data.startswith(b"[DONE]") or isinstance(json.loads(data), dict)
    except ValueError:
        return False


def _error_in(body: bytes) -> dict[str, Any] | None:
    """The error that an event is about; Azure's content filter has keys of this name further down."""
    try:
        value = json.loads(body)
    except ValueError:
        return None
    error = value.get("error") if isinstance(value, dict) else None
    if not error:
        return None
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
