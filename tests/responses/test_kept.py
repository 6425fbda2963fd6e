"""Responses that are kept: only where the tenant's policy says so, for its time, for that tenant alone."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from typing import Any

import openai
import pytest
from sqlalchemy import update

from serving.tenants.sql import open_database
from serving.tenants.sql.tables import responses
from tests.local import RecordingEngine, error_of, eventually, listening
from tests.responses.conftest import DAY, OpenPlace, Place


async def test_nothing_is_kept_unless_the_tenant_has_it_so(place: OpenPlace) -> None:
    here = place()
    client = here.client()
    for asked in (openai.omit, False):
        response: Any = await client.responses.create(model="echo", input="x", store=asked)
        assert response.store is False
        with pytest.raises(openai.NotFoundError) as missing:
            await client.responses.retrieve(response.id)
        assert missing.value.code == "response_not_found"
    for fields in ({"store": True}, {"background": True}):
        with pytest.raises(openai.BadRequestError, match="administrator") as refused:
            await client.responses.create(model="echo", input="x", **fields)
        assert (refused.value.code, refused.value.param) == ("storage_not_allowed", next(iter(fields)))
    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="echo", input="x", previous_response_id=response.id)
    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_kept_is_what_was_answered(place: OpenPlace, stream: bool) -> None:
    here = place()
    await here.keep(DAY)
    client = here.client()
    if stream:
        *_, last = [e async for e in await client.responses.create(model="echo", input="one two", stream=True)]
        response: Any = last.response
    else:
        response = await client.responses.create(model="echo", input="one two", store=True, instructions="Be brief.")
    kept: Any = await client.responses.retrieve(response.id)
    assert response.store is True and kept.model_dump() == response.model_dump()
    assert (await here.azure().responses.retrieve(response.id)).output_text == "one two"
    unkept: Any = await client.responses.create(model="echo", input="x", store=False)
    assert unkept.store is False
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(unkept.id)


async def test_a_conversation_goes_on_from_a_response(place: OpenPlace) -> None:
    engine = RecordingEngine((WHOLE,))
    here = place(engine)
    await here.keep(DAY)
    client = here.client()
    first = await client.responses.create(model="echo", input="a", instructions="Be brief.")
    second = await client.responses.create(model="echo", input="b", previous_response_id=first.id)
    third = await client.responses.create(
        model="echo", input="c", previous_response_id=second.id, instructions="Go on."
    )
    assert [(m["role"], m["content"]) for m in engine.asked[-1].body["messages"]] == [
        ("system", "Go on."),  # those of before are not carried over
        ("user", "a"), ("assistant", "yes"), ("user", "b"), ("assistant", "yes"), ("user", "c"),
    ]  # fmt: skip
    assert third.previous_response_id == second.id
    items = [item async for item in await client.responses.input_items.list(third.id, order="asc", limit=2)]
    assert [texts(item) for item in items] == ["a", "yes", "b", "yes", "c"]
    newest = (await client.responses.input_items.list(third.id, limit=1)).data[0]
    assert texts(newest) == "c"


async def test_a_deleted_response_is_gone_and_so_is_what_went_on_from_it(place: OpenPlace) -> None:
    here = place()
    await here.keep(DAY)
    client = here.client()
    first = await client.responses.create(model="echo", input="a")
    second = await client.responses.create(model="echo", input="b", previous_response_id=first.id)
    raw = await here.site.client().delete(f"/v1/responses/{first.id}")
    assert raw.json() == {"id": first.id, "object": "response", "deleted": True}
    for gone in (first.id, "resp_0", "resp_\x00", "x" * 150):
        with pytest.raises(openai.NotFoundError):
            await client.responses.delete(gone)
    with pytest.raises(openai.BadRequestError, match="or one before it") as refused:
        await client.responses.create(model="echo", input="c", previous_response_id=second.id)
    assert refused.value.code == "previous_response_not_found"
    assert [texts(item) for item in (await client.responses.input_items.list(second.id)).data] == ["b"]


async def test_a_call_and_its_output_go_on_from_a_response(place: OpenPlace) -> None:
    here = place()
    await here.keep(DAY)
    client = here.client()
    tool: Any = {"type": "function", "name": "weigh", "parameters": {"type": "object"}}
    first = await client.responses.create(model="echo", input="weigh now", tools=[tool])
    output: Any = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "70 kg"}  # type: ignore[union-attr]
    second = await client.responses.create(model="echo", input=[output], tools=[tool], previous_response_id=first.id)
    assert second.output_text == "70 kg"


async def test_an_item_that_is_kept_can_be_named_instead_of_sent(place: OpenPlace) -> None:
    engine = RecordingEngine((WHOLE,))
    here = place(engine)
    await here.keep(DAY)
    client = here.client()
    first = await client.responses.create(model="echo", input="a")
    named: Any = [{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "b"}]
    await client.responses.create(model="echo", input=named)
    assert [m["content"] for m in engine.asked[-1].body["messages"]] == ["yes", "b"]
    for id in ("msg_0_o0", "CANARY", first.output[0].id + "0"):
        with pytest.raises(openai.BadRequestError, match="not kept") as refused:
            await client.responses.create(model="echo", input=[{"type": "item_reference", "id": id}])
        assert "CANARY" not in str(refused.value.body)


async def test_references_are_counted_before_anything_is_read_and_each_response_is_read_once(place: OpenPlace) -> None:
    here = place()
    with listening(here.site.app) as url:
        await here.keep(DAY)
        first = await here.client(url=url).responses.create(model="echo", input="a")
        client = here.client(url=url)
        for ids in ([first.output[0].id] * 600, [f"msg_{number:048x}_o0" for number in range(100)]):
            many: Any = [{"type": "item_reference", "id": id} for id in ids]
            with pytest.raises(openai.BadRequestError, match="refers to too much"):
                await client.responses.create(model="echo", input=many)
        twice: Any = [{"type": "item_reference", "id": first.output[0].id}] * 20
        await client.responses.create(model="echo", input=[*twice, {"role": "user", "content": "b"}])
    assert here.audited("response.read") == [("response.read", first.id, "done")]


async def test_a_reference_to_nothing_says_what_helps(place: OpenPlace) -> None:
    here = place()
    response = await here.site.client().post(
        "/v1/responses", json={"model": "echo", "input": [{"type": "item_reference", "id": "msg_1"}]}
    )
    error = error_of(response, 400, "invalid_request")
    assert "store: false" in error["message"] and "keep_responses" in error["message"]


async def test_another_tenant_sees_none_of_it(place: OpenPlace) -> None:
    here = place()
    await here.keep(DAY)
    await here.keep(DAY, "lab")
    mine = await here.client().responses.create(model="echo", input="a")
    lab = await here.hospital.new_key("lab", "analyser")
    headers = {"authorization": f"Bearer {lab['key']}"}
    theirs = here.site.client(**headers)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
        error_of(await theirs.request(method, f"/v1/responses/{mine.id}{path}"), 404, "response_not_found")
    asked = {"model": "echo", "input": "x", "previous_response_id": mine.id}
    error_of(await theirs.post("/v1/responses", json=asked), 400, "previous_response_not_found")
    reference = {"model": "echo", "input": [{"type": "item_reference", "id": mine.output[0].id}]}
    error_of(await theirs.post("/v1/responses", json=reference), 400, "invalid_request")
    assert (await here.client().responses.retrieve(mine.id)).id == mine.id


async def test_only_callers_with_the_role_of_inference_read_what_is_kept(place: OpenPlace) -> None:
    here = place()
    await here.keep(DAY)
    mine = await here.client().responses.create(model="echo", input="a")
    with pytest.raises(openai.PermissionDeniedError):
        await here.client("ward_auditor").responses.retrieve(mine.id)


async def test_a_response_ends_with_its_time_with_the_policy_and_with_a_shorter_one(place: OpenPlace) -> None:
    here = place()
    await here.keep(DAY)
    client = here.client()
    one, two = [await client.responses.create(model="echo", input="a") for _ in range(2)]
    await here.keep(None)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(one.id)
    await here.keep(2 * DAY)
    assert (await client.responses.retrieve(one.id)).id == one.id
    age(here, one.id, timedelta(hours=1))
    await here.keep(3000)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(one.id)
    await here.keep(3 * DAY)
    age(here, two.id, timedelta(days=1))  # it was kept when a day was the time
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(two.id)
    assert (await client.responses.retrieve(one.id)).id == one.id
    with listening(here.site.app):  # its sweeper looks at the start
        await eventually(lambda: kept_ids(here) == [one.id])


async def test_what_is_too_large_is_answered_and_not_kept(place: OpenPlace) -> None:
    here = place(responses={"max_size": 2000})
    await here.keep(DAY)
    response: Any = await here.client().responses.create(model="echo", input="word " * 500, store=True)
    assert response.output_text and response.store is False
    with pytest.raises(openai.BadRequestError, match="2000 bytes"):
        await here.client().responses.create(model="echo", input="word " * 500, background=True)


async def test_a_tenant_that_has_enough_is_answered_and_no_more_is_kept(place: OpenPlace) -> None:
    here = place(responses={"max_stored": 1})
    await here.keep(DAY)
    stored: list[Any] = [await here.client().responses.create(model="echo", input="a") for _ in range(2)]
    assert [response.store for response in stored] == [True, False]
    with pytest.raises(openai.BadRequestError) as refused:
        await here.client().responses.create(model="echo", input="a", background=True)
    assert refused.value.code == "response_limit_exceeded"


@pytest.mark.parametrize("bound", [{"max_chain": 2}, {"max_history": 2500}])
async def test_a_conversation_that_is_too_long_is_refused(place: OpenPlace, bound: dict[str, int]) -> None:
    here = place(responses=bound)
    await here.keep(DAY)
    client = here.client()
    one = await client.responses.create(model="echo", input="a")
    two = await client.responses.create(model="echo", input="a", previous_response_id=one.id)
    three = await client.responses.create(model="echo", input="a", previous_response_id=two.id)
    with pytest.raises(openai.BadRequestError, match="too long") as refused:
        await client.responses.create(model="echo", input="a", previous_response_id=three.id)
    assert refused.value.param == "previous_response_id"


async def test_no_file_holds_what_was_said(place: OpenPlace) -> None:
    here = place()
    await here.keep(DAY)
    await here.client().responses.create(model="echo", input="CANARY", metadata={"a": "CANARY"}, instructions="CANARY")
    files = [path for path in here.site.settings.server.state_dir.rglob("*") if path.is_file()]
    assert kept_ids(here) and not [path for path in files if b"CANARY" in path.read_bytes()]


async def test_content_that_somebody_moved_to_another_response_does_not_open(place: OpenPlace) -> None:
    here = place()
    await here.keep(DAY)
    one, two = [await here.client().responses.create(model="echo", input="a") for _ in range(2)]
    with sqlite3.connect(here.site.settings.database_url.removeprefix("sqlite:///")) as database:
        database.execute(
            "UPDATE responses SET content = (SELECT content FROM responses WHERE id = ?) WHERE id = ?", (one.id, two.id)
        )
    with pytest.raises(openai.NotFoundError):
        await here.client().responses.retrieve(two.id)


async def test_what_is_kept_read_and_deleted_is_in_the_audit_log(place: OpenPlace) -> None:
    here = place()
    with listening(here.site.app) as url:
        await here.keep(DAY)
        client = here.client(url=url)
        first = await client.responses.create(model="echo", input="CANARY")
        second = await client.responses.create(model="echo", input="b", previous_response_id=first.id)
        await client.responses.retrieve(first.id)
        await client.responses.input_items.list(second.id)
        await client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve("resp_CANARY")
    assert [act for act in here.audited("tenant.") if act[0] == "tenant.keep_responses"]
    assert here.audited("response.") == [
        ("response.store", first.id, "done"),
        ("response.read", first.id, "done"),
        ("response.store", second.id, "done"),
        ("response.read", first.id, "done"),
        ("response.read", second.id, "done"),
        ("response.delete", first.id, "done"),
        ("response.read", "", "response_not_found"),  # it is none of ours, so it may be anything
    ]


async def test_what_is_asked_beside_its_own_path_is_refused(place: OpenPlace) -> None:
    here = place()
    await here.keep(DAY)
    client = here.client()
    response = await client.responses.create(model="echo", input="a")
    with pytest.raises(openai.BadRequestError, match="background"):
        await client.responses.cancel(response.id)
    with pytest.raises(openai.BadRequestError, match="cannot be streamed"):
        await client.responses.retrieve(response.id, stream=True)
    with pytest.raises(openai.BadRequestError, match="after"):
        await client.responses.input_items.list(response.id, after="msg_0")


WHOLE = (
    b'{"choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],'
    b' "usage": {"prompt_tokens": 5, "completion_tokens": 1}}'
)


def texts(item: Any) -> str:
    return "".join(part.text for part in item.content)


def age(here: Place, id: str, by: timedelta) -> None:
    """As if the response had been created earlier."""
    engine = open_database(here.site.settings.database_url)
    with engine.begin() as connection:
        row = connection.execute(responses.select().where(responses.c.id == id)).mappings().one()
        earlier = {"created_at": row["created_at"] - by, "expires_at": row["expires_at"] - by}
        connection.execute(update(responses).where(responses.c.id == id).values(**earlier))
    engine.dispose()


def kept_ids(here: Place) -> list[str]:
    with sqlite3.connect(here.site.settings.database_url.removeprefix("sqlite:///")) as database:
        return [id for (id,) in database.execute("SELECT id FROM responses ORDER BY created_at")]
