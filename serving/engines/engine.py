"""The Engine protocol: anything that turns a request into bytes of an OpenAI answer. Owned by the gateway, its user."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

INTERACTIVE, BATCH = 0, 10
LANE_HEADER, BATCH_LANE = "x-clinserve-lane", "batch"
"""With this the gateway marks lines of batches for our own replicas (deployments/lanes.py)."""
Operation = Literal["chat", "completions", "embeddings"]


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One request as an engine gets it: already tidied, with nothing of the caller's but the body.

    body: the OpenAI request, with `stream_options.include_usage` set when it streams. cache_salt: the tenant's
    KV-cache namespace, for engines that have one. request_id: ours, never the client's (vLLM CVE-2026-116176).
    priority: as vLLM's, lower runs first: INTERACTIVE or BATCH. traceparent: of our own span, for engines of ours; what
    the client sent is never passed on.
    """

    operation: Operation
    body: dict[str, Any]
    stream: bool
    request_id: str
    cache_salt: str
    priority: int = INTERACTIVE
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """Tokens that an engine counted for one request. cached is the part of prompt that its KV cache already held."""

    prompt: int
    cached: int
    completion: int


class Engine(Protocol):
    """Contract, checked for every implementation by tests/engines/test_engine_contract.py:

    - `answer` yields bytes or raises; a failure is an exception of serving.errors, never a yielded body.
    - Streaming, each item is one or more whole SSE events, in order, the last `data: [DONE]`; before it one event with
      `choices: []` and `usage`. Items are passed on as they come from the engine, without waiting to fill anything.
    - Not streaming, there is one item: a JSON object with `usage`.
    - Nothing generated yet: EngineUnavailable (503), InvalidRequest (400), EngineTimeout (504) before the first item.
      Afterwards: EngineFailed, after the last whole event.
    - Closing the generator stops the work in the engine at once. Its clean-up does not await.
    """

    def answer(self, request: EngineRequest) -> AsyncGenerator[bytes, None]: ...

    async def reckon(self, request_id: str) -> Tally | None:
        """What an answer that ended early has cost, by the engine's own count; None if the engine does not know.

        An answer that ends early has no usage, and the engine has generated more than what arrived. Asked at most once,
        after the generator was closed or raised. Never raises; bounded to a few seconds.
        """
        ...

    def cut(self) -> None:
        """End what is under way, each with an error that its client is told, and take nothing more: this process is to
        end. A plain call.
        """
        ...

    async def ready(self) -> bool:
        """Would a request be served now? Never raises; bounded to a few seconds."""
        ...

    async def close(self) -> None:
        """Release connections. No request may be running."""
        ...
