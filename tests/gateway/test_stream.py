"""settled, started, EventStream, whole: each way in which an answer can end pays once and closes the engine at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Message

from serving.engines.engine import EngineRequest, Tally
from serving.errors import EngineFailed, EngineUnavailable
from serving.gateway.catalog import Deployment, RequestLimits
from serving.gateway.dialects import OpenAI
from serving.gateway.digests import NoDigests
from serving.gateway.estimate import TokenEstimate
from serving.gateway.settlement import Settlements
from serving.gateway.stream import EventStream, settled, started, whole
from serving.telemetry.metrics import NoMetrics
from serving.telemetry.record import RequestRecord
from serving.tenants.quotas import RateState, Usage
from tests.local import DONE, ROLE, USAGE, WHOLE, RecordingEngine, chat, event, word

PROMPT = TokenEstimate().prompt(chat())
"""What is charged where the engine does not say."""


@dataclass
class KeptLease:
    settlements: list[Usage] = field(default_factory=list)
    requests: RateState | None = None
    tokens: RateState | None = None

    def settle(self, usage: Usage) -> None:
        self.settlements.append(usage)


class Answer:
    """An engine's answer to one request, and what became of it. tally: what the engine says of one that ended early."""

    def __init__(
        self, *items: bytes, error: BaseException | None = None, stream: bool = True, tally: Tally | None = None
    ) -> None:
        self.items, self.error = items, error
        self.lease, self.closed = KeptLease(), False
        self.record = RequestRecord(request_id="req_1", method="POST")
        self.record.about("echo", "chat", stream=stream)
        self.settlements = Settlements(metrics=NoMetrics(), digest=lambda data: "", new_digests=NoDigests)
        self.engine = RecordingEngine(tally=tally)

    async def _blocks(self) -> AsyncGenerator[bytes, None]:
        try:
            for item in self.items:
                yield item
            if self.error:
                raise self.error
        finally:
            self.closed = True

    def settled(self, *, hide_usage: bool = False) -> AsyncGenerator[bytes, None]:
        deployment = Deployment("echo", self.engine, RequestLimits())
        request = EngineRequest("chat", chat(), stream=self.record.stream, request_id="req_1", cache_salt="")
        settlement = self.settlements.open(self.record, self.lease, deployment, request)
        return settled(self._blocks(), settlement, hide_usage=hide_usage)

    async def ended_with(self, outcome: str, usage: Usage) -> bool:
        await self.settlements.close()
        spent = Usage(self.record.prompt_tokens, self.record.cached_tokens, self.record.completion_tokens)
        return (self.record.outcome, self.lease.settlements, spent, self.closed) == (outcome, [usage], usage, True)


async def read(blocks: AsyncGenerator[bytes, None]) -> list[bytes]:
    return [block async for block in blocks]


async def test_a_complete_stream_pays_what_its_usage_event_says() -> None:
    answer = Answer(ROLE, word("a"), event(choices=[], usage=USAGE) + DONE)
    await read(answer.settled())
    assert await answer.ended_with("ok", Usage(prompt=5, completion=7))


async def test_a_stream_that_breaks_pays_for_its_events_but_not_for_the_one_with_the_role() -> None:
    answer = Answer(ROLE + word("a"), word("b") + word("c"), error=EngineFailed())
    with pytest.raises(EngineFailed):
        await read(answer.settled())
    assert await answer.ended_with("engine_failed", Usage(prompt=PROMPT, completion=3))


async def test_a_client_that_leaves_pays_what_the_engine_has_generated_not_what_arrived() -> None:
    answer = Answer(ROLE, word("a"), word("b"), tally=Tally(prompt=9, cached=4, completion=6))
    async with aclosing(answer.settled()) as blocks:
        for _ in range(2):
            await anext(blocks)
    assert await answer.ended_with("client_left", Usage(prompt=9, cached=4, completion=6))


async def test_a_client_that_hangs_up_at_done_had_the_whole_answer() -> None:
    answer = Answer(ROLE, word("a"), event(choices=[], usage=USAGE) + DONE, b"what the connection still brings")
    async with aclosing(answer.settled()) as blocks:
        for _ in range(3):
            await anext(blocks)
    assert await answer.ended_with("ok", Usage(prompt=5, completion=7))


async def test_an_engine_is_asked_only_about_an_answer_that_ended_early() -> None:
    answer = Answer(ROLE, event(choices=[], usage=USAGE) + DONE, tally=Tally(prompt=1, cached=1, completion=1))
    await read(answer.settled())
    assert await answer.ended_with("ok", Usage(prompt=5, completion=7))
    assert answer.engine.reckoned == []


async def test_a_stream_that_never_began_pays_nothing() -> None:
    answer = Answer(error=EngineUnavailable())
    with pytest.raises(EngineUnavailable):
        await started(answer.settled())
    assert await answer.ended_with("engine_unavailable", Usage())


async def test_an_exception_that_nobody_planned_pays_too() -> None:
    answer = Answer(ROLE, word("a"), error=RuntimeError())
    with pytest.raises(RuntimeError):
        await read(answer.settled())
    assert await answer.ended_with("internal_error", Usage(prompt=PROMPT, completion=1))


async def test_a_reader_that_stops_pays_for_what_it_got() -> None:
    answer = Answer(ROLE, word("a"), word("b"), word("c"))
    async with aclosing(answer.settled()) as blocks:
        for _ in range(3):
            await anext(blocks)
    assert await answer.ended_with("client_left", Usage(prompt=PROMPT, completion=2))


async def test_a_whole_answer_pays_what_it_says() -> None:
    answer = Answer(WHOLE, stream=False)
    assert (await whole(answer.settled())).body == WHOLE
    assert await answer.ended_with("ok", Usage(prompt=5, completion=7))


@pytest.mark.parametrize("hide", [False, True])
async def test_only_the_usage_event_is_taken_out_of_a_block(hide: bool) -> None:
    usage = event(choices=[], usage=USAGE)
    answer = Answer(word("a") + usage + word("b"), usage, DONE)
    kept = await read(answer.settled(hide_usage=hide))
    assert kept == ([word("a") + word("b"), DONE] if hide else list(answer.items))


async def test_text_that_looks_like_a_usage_event_is_left_alone() -> None:
    sly = word('"usage":{"prompt_tokens":0}')
    answer = Answer(ROLE, sly, DONE)
    assert await read(answer.settled(hide_usage=True)) == [ROLE, sly, DONE]


async def test_usage_written_with_spaces_counts_as_well() -> None:
    spaced = b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}\n\n'
    answer = Answer(ROLE, spaced, DONE)
    assert await read(answer.settled(hide_usage=True)) == [ROLE, DONE]
    assert await answer.ended_with("ok", Usage(prompt=5, completion=7))


async def test_the_time_to_first_token_is_taken_at_the_first_bytes() -> None:
    answer = Answer(ROLE, word("a"))
    blocks = answer.settled()
    assert answer.record.first_token is None
    await anext(blocks)
    first = answer.record.first_token
    await read(blocks)
    assert first is not None and answer.record.first_token == first


async def send_until(blocks: AsyncGenerator[bytes, None], stop_at: int) -> list[Message]:
    """Send the stream to a client whose socket blocks at message `stop_at`, and cancel it there, as servers do."""
    sent: list[Message] = []
    blocked = asyncio.Event()

    async def send(message: Message) -> None:
        sent.append(message)
        if len(sent) == stop_at:
            blocked.set()
            await asyncio.Event().wait()

    first, record = await started(blocks), RequestRecord(request_id="req_1", method="POST")
    stream = EventStream(first, blocks, dialect=OpenAI(), record=record, on_error=lambda error: None)
    sending = asyncio.create_task(stream({"type": "http"}, ignored, send))
    await blocked.wait()
    sending.cancel()
    await asyncio.wait({sending})
    return sent


async def ignored() -> Message:
    raise AssertionError


@pytest.mark.parametrize("stop_at", [1, 2, 3])
async def test_a_client_that_leaves_during_a_blocked_write_has_paid_when_the_request_ends(stop_at: int) -> None:
    answer = Answer(ROLE, word("a"), word("b"), word("c"))
    await send_until(answer.settled(), stop_at)
    assert await answer.ended_with("client_left", Usage(PROMPT, 0, completion=max(0, stop_at - 2)))


async def test_a_stream_is_sent_block_by_block_and_then_ended() -> None:
    answer = Answer(ROLE, word("a"), DONE)
    sent = await sent_by(answer)
    assert [message.get("body") for message in sent] == [None, ROLE, word("a"), DONE, b""]
    assert [message.get("more_body") for message in sent] == [None, True, True, True, False]


async def test_a_failure_mid_stream_is_an_event_of_its_own_and_no_error_of_ours() -> None:
    told: list[BaseException] = []
    sent = await sent_by(Answer(ROLE, error=EngineFailed()), told.append)
    assert [message["body"][:15] for message in sent[1:]] == [ROLE[:15], b'data: {"error":']
    assert told == []


async def test_an_exception_that_nobody_planned_is_told() -> None:
    told: list[BaseException] = []
    await sent_by(Answer(ROLE, error=RuntimeError()), told.append)
    assert [type(error) for error in told] == [RuntimeError]


async def sent_by(answer: Answer, on_error: Callable[[BaseException], Any] = print) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    blocks = answer.settled()
    stream = EventStream(await started(blocks), blocks, dialect=OpenAI(), record=answer.record, on_error=on_error)
    await stream({"type": "http"}, ignored, send)
    return sent
