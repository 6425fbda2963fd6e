"""Service tiers: who goes first at a deployment that is full, and the answer's word on it.

`flex` waits for the others, `priority` goes before them where the deployment allows it, anything else is `default`
(https://platform.openai.com/docs/api-reference/chat/create, service_tier: the answer names the tier really used).
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any, Literal

from pydantic_core import from_json, to_json

from serving.gateway.catalog import Deployment
from serving.gateway.form import Blocks
from serving.protocol import sse
from serving.protocol.openai import InferenceRequest

Name = Literal["default", "flex", "priority"]
_PRIORITIES: dict[Name, int] = {"priority": -5, "default": 0, "flex": 5}


class Tier:
    """A Form. told: whether the answer names the tier, which it does for those who chose one."""

    def __init__(self, name: Name, *, told: bool) -> None:
        self._name = name
        self._told = told

    @property
    def priority(self) -> int:
        """Added to the request's own, as vLLM's: lower runs first."""
        return _PRIORITIES[self._name]

    def of(self, blocks: Blocks) -> Blocks:
        return self._named(blocks) if self._told else blocks

    async def _named(self, blocks: Blocks) -> Blocks:
        async with aclosing(blocks):
            async for block in blocks:
                if not block.startswith(b"data:"):
                    yield to_json(self._with_tier(from_json(block)))
                else:
                    yield b"".join(self._event(event) for event in sse.events_in(block))

    def _event(self, event: bytes) -> bytes:
        payload = sse.payload_of(event)
        return event if payload is None else sse.encode(self._with_tier(payload))

    def _with_tier(self, answer: dict[str, Any]) -> dict[str, Any]:
        return answer | {"service_tier": self._name}


def tier_of(body: InferenceRequest, deployment: Deployment) -> Tier:
    """The tier that the request gets, whatever it asks for."""
    name: Name = "default"
    if body.service_tier == "flex":
        name = "flex"
    elif body.service_tier == "priority" and deployment.fast_lane:
        name = "priority"
    return Tier(name, told=body.service_tier is not None)
