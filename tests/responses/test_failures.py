"""What a client of the Responses API sees when something breaks, and what it pays."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from serving.engines.echo import EchoEngine
from serving.errors import EngineFailed
from tests.local import RecordingEngine, eventually, listening
from tests.responses.conftest import DAY, OpenPlace


@pytest.mark.parametrize("stream", [False, True])
async def test_an_engine_that_is_away_is_a_status(place: OpenPlace, stream: bool) -> None:
    here = place(echo={"failures": [{"action": "refuse"}]})
    for client in (here.client(), here.azure()):
        with pytest.raises(openai.InternalServerError) as failed:
            await client.responses.create(model="echo", input="x", stream=stream)
        assert failed.value.status_code == 503


async def test_openais_client_is_handed_the_error_of_a_stream_that_breaks(place: OpenPlace) -> None:
    here = place(echo={"failures": [{"when": "die", "action": "die", "after": 2}]})
    await here.keep(DAY)
    stream = await here.client().responses.create(model="echo", input="please die now or later", stream=True)
    events: list[Any] = [event async for event in stream]
    error, failed = events[-2:]
    assert (error.type, error.code, error.message) == ("error", "engine_failed", EngineFailed.default_message)
    assert failed.type == "response.failed" and failed.response.error.code == "server_error"
    assert failed.response.output_text == "please die" and failed.response.store is False
    assert [event.sequence_number for event in events] == list(range(len(events)))
    line = here.site.log()[-1]
    assert (line["outcome"], line["completion_tokens"]) == ("engine_failed", 2)
    with pytest.raises(openai.NotFoundError):
        await here.client().responses.retrieve(failed.response.id)


async def test_azures_client_raises_the_error_of_a_stream_that_breaks(place: OpenPlace) -> None:
    here = place(echo={"failures": [{"when": "die", "action": "die", "after": 2}]})
    stream = await here.azure().responses.create(model="echo", input="please die now", stream=True)
    with pytest.raises(openai.APIError, match="stopped before the answer was complete") as failed:
        async for _ in stream:
            pass
    assert failed.value.body == {
        "type": "server_error",
        "code": "engine_failed",
        "message": EngineFailed.default_message,
        "param": None,
    }


async def test_a_whole_answer_that_breaks_is_a_status_and_is_charged_once(place: OpenPlace) -> None:
    here = place(echo={"failures": [{"when": "die", "action": "die", "after": 2}]})
    with pytest.raises(openai.InternalServerError) as failed:
        await here.client().responses.create(model="echo", input="please die now")
    assert failed.value.status_code == 502
    await eventually(lambda: here.site.log()[-1]["completion_tokens"] == 2)


async def test_a_mistake_of_ours_ends_the_stream_and_tells_nothing(place: OpenPlace) -> None:
    first = b'data: {"choices":[{"index":0,"delta":{"content":"one"}}]}\n\n'
    here = place(RecordingEngine((first,), RuntimeError("CANARY")))
    stream = await here.client().responses.create(model="echo", input="x", stream=True)
    with pytest.raises(openai.APIError) as failed:
        async for _ in stream:
            pass
    assert "CANARY" not in str(failed.value.body)


async def test_a_client_that_leaves_pays_once_for_what_was_generated_and_nothing_is_kept(place: OpenPlace) -> None:
    engine = EchoEngine(inter_token=0.05)
    here = place(engine)
    await here.keep(DAY)
    with listening(here.site.app) as url:
        stream = await here.client(url=url).responses.create(model="echo", input="word " * 200, stream=True)
        async for event in stream:
            if event.type == "response.created":
                id = event.response.id
            if event.type == "response.output_text.delta":
                break
        await stream.close()
        await eventually(lambda: here.site.log()[-1]["outcome"] == "client_left" and engine.running == 0)
        lines = [line for line in here.site.log() if line["route"] == "/v1/responses"]
        assert len(lines) == 1 and 0 < lines[0]["completion_tokens"] < 200
        with pytest.raises(openai.NotFoundError):
            await here.client(url=url).responses.retrieve(id)


async def test_a_full_server_says_when_to_come_back(place: OpenPlace) -> None:
    here = place(quotas={"defaults": {"key": {"requests_per_minute": 1}}})
    await here.client().responses.create(model="echo", input="x")
    with pytest.raises(openai.RateLimitError) as refused:
        await here.client().responses.create(model="echo", input="x", stream=True)
    assert int(refused.value.response.headers["retry-after"]) > 0
