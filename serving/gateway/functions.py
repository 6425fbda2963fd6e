"""`functions` and `function_call`, from before tools: the request becomes one with tools, the answer is put back."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from pydantic_core import from_json, to_json

from serving.gateway.form import PLAIN, Blocks, Form
from serving.protocol import sse
from serving.protocol.openai import ChatRequest


class CallAsFunction:
    """A Form. An answer's first tool call becomes its `function_call`; there is one, as parallel calls are off."""

    def of(self, blocks: Blocks) -> Blocks:
        return self._translated(blocks)

    async def _translated(self, blocks: Blocks) -> Blocks:
        async with aclosing(blocks):
            async for block in blocks:
                if not block.startswith(b"data:"):
                    yield to_json(_answer(from_json(block)))
                else:
                    yield b"".join(_event(event) for event in sse.events_in(block))


def form_of(body: ChatRequest) -> Form:
    return CallAsFunction() if body.functions is not None else PLAIN


def _event(event: bytes) -> bytes:
    payload = sse.payload_of(event)
    return event if payload is None else sse.encode(_answer(payload))


def _answer(answer: dict[str, Any]) -> dict[str, Any]:
    for choice in answer.get("choices") or ():
        if choice.get("finish_reason") == "tool_calls":
            choice["finish_reason"] = "function_call"
        for said in (choice.get("message"), choice.get("delta")):
            calls = said.pop("tool_calls", None) if isinstance(said, dict) else None
            first = next((call for call in calls or () if not call.get("index")), None)
            if first is not None:
                function = first.get("function") or {}
                said["function_call"] = {
                    name: function[name] for name in ("name", "arguments") if function.get(name) is not None
                }
    return answer
