"""What vLLM counted for each request, for those whose answer broke off: their usage event never came.

A client that leaves has been charged by events elsewhere, or not at all (https://github.com/BerriAI/litellm/issues/14457).
vLLM knows to the token: its output processor keeps a state for each request, with the counts that its own metrics are
made of, and drops it when the request ends or is aborted. We note the counts at that moment, in the dictionary of
states. That is not a public API: it is used here only, pinned, and tests/e2e compares the sums with vLLM's metrics.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from typing import Any, Protocol

_OUR_ID = re.compile(r"req_[0-9a-f]{24}")
_KEPT = 8192
_WAIT_SECONDS = 3.0
_UNKNOWN_SECONDS = 1.0
_POLL_SECONDS = 0.02

Counts = dict[str, int]


class Costs(Protocol):
    async def of(self, request_id: str) -> Counts | None:
        """{"prompt", "cached", "completion"} in tokens, of a request that has ended; None where it is not known."""
        ...


class Tallies:
    """Counts of the requests that ended lately, by our request id, as {"prompt", "cached", "completion"} in tokens."""

    def __init__(self) -> None:
        self._ended: OrderedDict[str, _Sum] = OrderedDict()
        self._states: _States = _States(self._note)

    def watch(self, output_processor: Any) -> None:
        """Take the place of vLLM's dictionary of request states (vllm.v1.engine.output_processor.OutputProcessor)."""
        self._states.update(output_processor.request_states)
        output_processor.request_states = self._states

    async def of(self, request_id: str) -> Counts | None:
        """The request's counts once it has ended. None if it does not end in three seconds, or is not known."""
        end = asyncio.get_running_loop().time() + _WAIT_SECONDS
        known_until = end - _WAIT_SECONDS + _UNKNOWN_SECONDS
        while (now := asyncio.get_running_loop().time()) < end:
            running = any(request_id in state.external_req_id for state in self._states.values())
            if not running and (ended := self._ended.get(request_id)):
                return ended.counts()
            if not running and now > known_until:
                return None
            await asyncio.sleep(_POLL_SECONDS)
        return None

    def _note(self, state: Any) -> None:
        ours = _OUR_ID.search(state.external_req_id or "")
        if ours is None or state.stats is None:
            return
        self._ended.setdefault(ours[0], _Sum()).add(state)
        self._ended.move_to_end(ours[0])
        while len(self._ended) > _KEPT:
            self._ended.popitem(last=False)


class _Sum:
    """The parts of one request: several answers to a prompt (n), several prompts."""

    __slots__ = ("_completion", "_prompts")

    def __init__(self) -> None:
        self._prompts: dict[str, tuple[int, int]] = {}
        self._completion = 0

    def add(self, state: Any) -> None:
        # vLLM counts a prompt when its first token comes; and we charge it once, however many answers it has.
        if not state.is_prefilling:
            self._prompts[state.external_req_id] = (state.prompt_len, state.num_cached_tokens)
        self._completion += state.stats.num_generation_tokens

    def counts(self) -> Counts:
        return {
            "prompt": sum(prompt for prompt, _ in self._prompts.values()),
            "cached": sum(cached for _, cached in self._prompts.values()),
            "completion": self._completion,
        }


class _States(dict[str, Any]):
    """vLLM's request states; whoever ends a request, by finishing or by aborting it, pops its state."""

    def __init__(self, note: Any) -> None:
        super().__init__()
        self._note = note

    def pop(self, key: str, *default: Any) -> Any:
        state = super().pop(key, *default)
        if state is not None:
            self._note(state)
        return state
