"""One HTTP response as it arrives: whether it is the whole answer, and when which part of it came."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CONTENT_FIELDS = ("content", "reasoning_content", "reasoning")
DONE = b"data: [DONE]"
EVENT = b"data: {"


@dataclass(frozen=True)
class Timing:
    """One complete answer. Seconds; tokens as the server counted them, frames as they arrived.

    An answer that is not streamed has its first token when it has its last.
    """

    ttft: float
    e2e: float
    tpot: float | None  # undefined for one token
    tokens: int
    frames: int


class Failed(Exception):
    """One request did not give the whole answer that was asked for."""


class Answer:
    """One HTTP response as it arrives. Keeps the pieces; reads only what it must before the end."""

    def __init__(self, *, stream: bool = True) -> None:
        self.status = 0
        self._stream = stream
        self.first: float | None = None  # when the first event with content was complete
        self.last = 0.0  # when the last body bytes came: [DONE] in a whole answer
        self.complete = False
        self.keep_alive = True
        self._pieces: list[bytes] = []
        self._unread = b""  # an incomplete head, chunk size or event line
        self._chunked = False
        self._left: int | None = 0  # bytes left of this chunk or body; None: until the connection closes
        self._trailers = False
        self._events = b""
        self._arrivals: list[tuple[float, int]] = []  # when, and how many events with it, after the first content

    def feed(self, data: bytes, now: float) -> None:
        """Take the bytes of one read."""
        if not self.status:
            head, found, data = (self._unread + data).partition(b"\r\n\r\n")
            if not found:
                self._unread = head
                return
            self._unread = b""
            self._read_head(head)
        body = self._dechunk(data) if self._chunked else self._take(data)
        if not body:
            return
        self.last = now
        self._pieces.append(body)
        if self.first is not None:
            self._arrivals.append((now, body.count(EVENT)))
        elif self._stream:
            self._seek_content(body, now)

    def closed(self) -> None:
        """Note that the connection is gone: the end of a body without a length, else a broken answer."""
        self.keep_alive = False
        if self.status and not self._chunked and self._left is None:
            self.complete = True

    def timing(self, sent: float, tokens: int) -> Timing:
        """Return what was measured, or raise Failed unless this is the whole answer to a request for `tokens`."""
        body = b"".join(self._pieces)
        tail = body[-300:].decode(errors="replace").strip()
        if self.status != 200:
            raise Failed(f"HTTP {self.status}: {tail}" if self.status else "connection closed without an answer")
        if not self.complete:
            raise Failed(f"connection closed in the middle of an answer, which ends: {tail}")
        if not self._stream:
            return self._whole(body, sent, tokens)
        lines = body.split(b"\n")
        if not any(line.rstrip() == DONE for line in lines[-4:]):
            raise Failed(f"answer without [DONE], which ends: {tail}")
        if self.first is None:
            raise Failed(f"answer without content, which ends: {tail}")
        counted = _completion_tokens(lines)
        if counted is None:
            raise Failed(f"answer without usage, which ends: {tail}")
        if counted != tokens:
            raise Failed(f"{counted} tokens instead of {tokens}")
        frames = sum(line.startswith(b"data: ") for line in lines) - 1  # without [DONE]
        tpot = (self.last - self.first) / (counted - 1) if counted > 1 else None
        return Timing(self.first - sent, self.last - sent, tpot, counted, frames)

    def gaps(self, tokens: int) -> Iterator[float]:
        """Return the time before each token but the first, in order. What comes after the last one does not count."""
        before, left = self.first or 0.0, tokens - 1
        for now, events in self._arrivals:
            for number in range(min(events, left)):
                yield 0.0 if number else now - before
                before = now
            left -= events
            if left <= 0:
                return

    def _whole(self, body: bytes, sent: float, tokens: int) -> Timing:
        answer = json.loads(body)
        if not answer["choices"][0]["message"].get("content"):
            raise Failed("answer without content")
        counted = answer["usage"]["completion_tokens"]
        if counted != tokens:
            raise Failed(f"{counted} tokens instead of {tokens}")
        return Timing(self.last - sent, self.last - sent, None, counted, 1)

    def _read_head(self, head: bytes) -> None:
        status, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(status.split(" ", 2)[1])
        headers = {name.strip().lower(): value.strip().lower() for name, _, value in (h.partition(":") for h in lines)}
        self.keep_alive = headers.get("connection") != "close"
        self._chunked = headers.get("transfer-encoding") == "chunked"
        if not self._chunked:
            length = headers.get("content-length")
            self._left = None if length is None else int(length)
            self.complete = self._left == 0

    def _take(self, data: bytes) -> bytes:
        if self._left is not None:
            self._left -= len(data)
            self.complete = self._left <= 0
        return data

    def _dechunk(self, data: bytes) -> bytes:
        data, at, pieces = self._unread + data, 0, []
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                break
            line, at = data[at:end], end + 2
            if self._trailers:
                self.complete = not line
            elif line:  # an empty one ends the chunk before
                self._left = int(line.partition(b";")[0], 16)
                self._trailers = self._left == 0
        self._unread = data[at:]
        return b"".join(pieces)

    def _seek_content(self, body: bytes, now: float) -> None:
        *lines, self._events = (self._events + body).split(b"\n")
        for number, line in enumerate(lines, start=1):
            if _has_content(line):
                self.first = now
                later = [*lines[number:], self._events]
                self._arrivals.append((now, sum(line.startswith(EVENT) for line in later)))
                return


def _has_content(line: bytes) -> bool:
    if not line.startswith(EVENT):
        return False
    choices = json.loads(line[6:]).get("choices") or []
    return any((choice.get("delta") or {}).get(name) for choice in choices for name in CONTENT_FIELDS)


def _completion_tokens(lines: Sequence[bytes]) -> int | None:
    for line in reversed(lines):
        if line.startswith(EVENT) and b'"usage"' in line:
            usage: dict[str, int] = json.loads(line[6:]).get("usage") or {}
            if "completion_tokens" in usage:
                return usage["completion_tokens"]
    return None
