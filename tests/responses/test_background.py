"""Responses that nobody waits for: begun, polled, cancelled from anywhere, and never left hanging."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import openai
import pytest
from sqlalchemy import update

from serving import app as assembly
from serving.engines.echo import EchoEngine
from serving.gateway.app import create_app
from serving.gateway.middleware import RequestId
from serving.tenants.sql import open_database
from serving.tenants.sql.tables import responses
from tests.conftest import no_replicas
from tests.local import eventually, listening
from tests.responses.conftest import DAY, OpenPlace, Place

SLOW = {"first_token": 30}


async def begun(client: openai.AsyncOpenAI, **fields: Any) -> Any:
    response = await client.responses.create(model="echo", background=True, **{"input": "one two"} | fields)
    assert (response.status, response.background, response.output) == ("queued", True, [])
    return response


async def ended(client: openai.AsyncOpenAI, id: str) -> Any:
    async with asyncio.timeout(10):
        while (response := await client.responses.retrieve(id)).status in ("queued", "in_progress"):
            await asyncio.sleep(0.01)
    return response


@contextmanager
def another_gateway(here: Place) -> Iterator[openai.AsyncOpenAI]:
    """A second process as far as anything but the memory goes; a client of it."""
    app = RequestId(create_app(assembly.build_parts(here.site.settings, no_replicas)))
    with listening(app) as url:
        yield here.client(url=url)


async def test_a_response_in_the_background_is_answered_kept_and_charged_as_any_other(place: OpenPlace) -> None:
    here = place()
    await here.keep(DAY)
    client = here.client()
    response = await ended(client, (await begun(client, metadata={"study": "a"})).id)
    assert (response.status, response.output_text, response.metadata) == ("completed", "one two", {"study": "a"})
    assert response.usage.output_tokens == 2 and response.background is True
    [line] = [line for line in here.site.log() if line["completion_tokens"]]
    assert (line["completion_tokens"], line["tenant"], line["outcome"]) == (2, "ward", "ok")
    more = await client.responses.create(model="echo", input="more", previous_response_id=response.id)
    assert more.output_text == "more"


async def test_while_it_runs_it_is_in_progress_and_nothing_goes_on_from_it(place: OpenPlace) -> None:
    here = place(echo=SLOW)
    await here.keep(DAY)
    client = here.client()
    id = (await begun(client)).id
    await asyncio.sleep(0.2)
    assert (await client.responses.retrieve(id)).status == "in_progress"
    with pytest.raises(openai.BadRequestError, match="in_progress") as refused:
        await client.responses.create(model="echo", input="more", previous_response_id=id)
    assert refused.value.param == "previous_response_id"
    await client.responses.cancel(id)


async def test_any_gateway_cancels_it_and_its_engine_stops(place: OpenPlace) -> None:
    engine = EchoEngine(first_token=30)
    here = place(engine)
    await here.keep(DAY)
    with listening(here.site.app) as url, another_gateway(here) as elsewhere:
        client = here.client(url=url)
        id = (await begun(client)).id
        await eventually(lambda: engine.running == 1)
        cancelled = await elsewhere.responses.cancel(id)
        assert (cancelled.status, cancelled.output, cancelled.error) == ("cancelled", [], None)
        await eventually(lambda: engine.running == 0)
        assert (await client.responses.cancel(id)).status == "cancelled"  # twice is as once
        assert (await client.responses.retrieve(id)).status == "cancelled"


async def test_a_deleted_one_is_stopped_too(place: OpenPlace) -> None:
    engine = EchoEngine(first_token=30)
    here = place(engine)
    await here.keep(DAY)
    with listening(here.site.app) as url:
        client = here.client(url=url)
        id = (await begun(client)).id
        await eventually(lambda: engine.running == 1)
        await client.responses.delete(id)
        await eventually(lambda: engine.running == 0)


async def test_one_that_has_ended_stays_as_it_is(place: OpenPlace) -> None:
    here = place()
    await here.keep(DAY)
    client = here.client()
    response = await ended(client, (await begun(client)).id)
    assert (await client.responses.cancel(response.id)).model_dump() == response.model_dump()


async def test_what_fails_says_why(place: OpenPlace) -> None:
    here = place(echo={"failures": [{"when": "die", "action": "refuse"}]}, limits={"max_tokens": 100})
    await here.keep(DAY)
    client = here.client()
    failed = await ended(client, (await begun(client, input="die")).id)
    assert (failed.status, failed.error.code) == ("failed", "server_error") and "No replica" in failed.error.message
    refused = await ended(client, (await begun(client, max_output_tokens=500)).id)
    assert (refused.status, refused.error.code) == ("failed", "invalid_prompt")
    with pytest.raises(openai.BadRequestError, match="failed"):
        await client.responses.create(model="echo", input="more", previous_response_id=failed.id)


async def test_a_gateway_that_stops_fails_what_it_worked_on(place: OpenPlace) -> None:
    here = place(echo=SLOW)
    await here.keep(DAY)
    with another_gateway(here) as elsewhere:
        with listening(here.site.app) as url:
            id = (await begun(here.client(url=url))).id
        stopped = await elsewhere.responses.retrieve(id)
    assert (stopped.status, stopped.error and stopped.error.code) == ("failed", "server_error")


async def test_one_whose_gateway_died_has_failed_and_stays_so(place: OpenPlace) -> None:
    here = place(echo={"first_token": 0.5})
    await here.keep(DAY)
    client = here.client()
    id = (await begun(client)).id
    await asyncio.sleep(0.2)
    engine = open_database(here.site.settings.database_url)
    with engine.begin() as connection:  # as if it had not been heard of for a while
        connection.execute(update(responses).values(held_until=datetime(2026, 1, 1, tzinfo=UTC)))
    engine.dispose()
    dead = await client.responses.retrieve(id)
    assert (dead.status, dead.error and dead.error.code) == ("failed", "server_error")
    await asyncio.sleep(0.6)
    assert (await client.responses.retrieve(id)).status == "failed"


async def test_what_cannot_be_done_in_the_background_is_refused_at_once(place: OpenPlace) -> None:
    here = place()
    await here.keep(DAY)
    client = here.client()
    for fields, says in (({"stream": True}, "streamed"), ({"store": False}, "store")):
        with pytest.raises(openai.BadRequestError, match=says):
            await client.responses.create(model="echo", input="x", background=True, **fields)  # type: ignore[call-overload]
    with pytest.raises(openai.NotFoundError):
        await client.responses.create(model="ecko", input="x", background=True)


async def test_a_gateway_works_on_so_many_at_a_time(place: OpenPlace) -> None:
    here = place(echo=SLOW, responses={"max_background": 1})
    await here.keep(DAY)
    client = here.client()
    id = (await begun(client)).id
    with pytest.raises(openai.RateLimitError) as refused:
        await begun(client)
    assert int(refused.value.response.headers["retry-after"]) > 0
    await client.responses.cancel(id)


async def test_a_key_that_is_bound_to_a_network_may_leave_it_to_the_background(place: OpenPlace) -> None:
    here = place()
    await here.keep(DAY)
    asked = {"tenant": "ward", "name": "bound", "networks": ["127.0.0.0/8"]}
    key = (await here.hospital.ask("root", "POST", "/keys", asked)).json()["key"]
    with listening(here.site.app) as url:
        client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key)
        assert (await ended(client, (await begun(client)).id)).status == "completed"
