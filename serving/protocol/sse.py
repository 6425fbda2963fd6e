"""Server-sent events as OpenAI sends them: `data: {json}` and a blank line, LF only, the last one `data: [DONE]`.

Strict parsers (azure-ai-inference) fail on comments, CRLF and `event:` lines, so we never write any.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

DONE = b"data: [DONE]\n\n"
END = b"\n\n"


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


def encode(payload: object) -> bytes:
    """One event with `payload` as compact JSON."""
    return b"data: " + json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode() + END
