"""The items that a response is made of, as they grow: each with the events that open it, add to it and close it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Event = dict[str, Any]
Kind = Literal["output_text", "refusal", "reasoning_text"]


@dataclass(slots=True)
class Spoken:
    """A message with one part, or the reasoning."""

    kind: Kind
    id: str
    index: int
    texts: list[str] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)

    @property
    def _at(self) -> dict[str, Any]:
        return {"item_id": self.id, "output_index": self.index, "content_index": 0}

    @property
    def _field(self) -> str:
        return "refusal" if self.kind == "refusal" else "text"

    def _part(self) -> dict[str, Any]:
        part: dict[str, Any] = {"type": self.kind, self._field: "".join(self.texts)}
        return part | {"annotations": [], "logprobs": list(self.logprobs)} if self.kind == "output_text" else part

    def item(self, status: str, *parts: dict[str, Any]) -> dict[str, Any]:
        if self.kind == "reasoning_text":
            return {"id": self.id, "type": "reasoning", "summary": [], "content": list(parts), "status": status}
        return {"id": self.id, "type": "message", "role": "assistant", "status": status, "content": list(parts)}

    def opened(self) -> list[Event]:
        added = {"output_index": self.index, "item": self.item("in_progress")}
        return [
            {"type": "response.output_item.added", **added},
            {"type": "response.content_part.added", **self._at, "part": self._part()},
        ]

    def add(self, text: str, logprobs: list[Any]) -> list[Event]:
        self.texts.append(text)
        self.logprobs += logprobs
        event = {"type": f"response.{self.kind}.delta", **self._at, "delta": text}
        return [event | {"logprobs": logprobs} if self.kind == "output_text" else event]

    def closed(self, status: str) -> tuple[dict[str, Any], list[Event]]:
        part = self._part()
        done = {"type": f"response.{self.kind}.done", **self._at, self._field: part[self._field]}
        if self.kind == "output_text":
            done["logprobs"] = self.logprobs
        return self.item(status, part), [done, {"type": "response.content_part.done", **self._at, "part": part}]


@dataclass(slots=True)
class Call:
    """A function call."""

    id: str
    index: int
    call_id: str
    name: str
    pieces: list[str] = field(default_factory=list)

    def item(self, status: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "function_call",
            "call_id": self.call_id,
            "name": self.name,
            "arguments": "".join(self.pieces),
            "status": status,
        }

    def opened(self) -> list[Event]:
        return [{"type": "response.output_item.added", "output_index": self.index, "item": self.item("in_progress")}]

    def add(self, piece: str) -> list[Event]:
        self.pieces.append(piece)
        at = {"item_id": self.id, "output_index": self.index}
        return [{"type": "response.function_call_arguments.delta", **at, "delta": piece}]

    def closed(self, status: str) -> tuple[dict[str, Any], list[Event]]:
        item = self.item(status)
        done = {"item_id": self.id, "output_index": self.index, "name": self.name, "arguments": item["arguments"]}
        return item, [{"type": "response.function_call_arguments.done", **done}]
