"""Idempotency-Key as clients use it: sent again, a request is answered again and neither run nor charged again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
import redis

from serving.app import build_keyring, open_office
from serving.engines.echo import EchoEngine, PlannedFailure
from serving.errors import EngineUnavailable
from serving.tenants.audit_store import AuditQuery
from serving.tenants.ledger import UsageQuery
from tests.conftest import OpenSite
from tests.local import (
    ROLE,
    WHOLE,
    RecordingEngine,
    Site,
    Tree,
    assert_says_when_to_come_back,
    chat,
    error_of,
    eventually,
    listening,
    word,
)
from tests.tenants.conftest import missing
from tests.tenants.redis_server import RedisServer, installed

PATH = "/v1/chat/completions"
DATED = "/openai/deployments/echo/chat/completions?api-version=2024-10-21"
KEY = {"idempotency-key": "9b1f-4c"}
CALLS: list[tuple[str, Tree]] = [
    (PATH, chat()),
    (PATH, chat(stream=True)),
    ("/v1/completions", {"model": "echo", "prompt": "one two"}),
    ("/v1/embeddings", {"model": "echo", "input": "one two"}),
    ("/openai/v1/chat/completions", chat()),
    (DATED, chat(stream=True)),
    ("/models/chat/completions?api-version=2024-05-01-preview", chat()),
]


@pytest.mark.parametrize(("path", "body"), CALLS)
async def test_a_repeat_gets_the_same_answer_byte_for_byte_and_the_engine_is_not_asked(
    site: OpenSite, path: str, body: Tree
) -> None:
    open_site = site()
    client = open_site.client()
    first = await client.post(path, json=body, headers=KEY)
    again = await client.post(path, json=body, headers=KEY)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content and again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["idempotency-replayed"] == "true" and "idempotency-replayed" not in first.headers
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert ("content-length" in again.headers) == ("content-length" in first.headers)
    assert [line["outcome"] for line in open_site.log()] == ["ok", "replayed"]


async def test_of_a_hundred_at_once_one_reaches_the_engine_and_is_charged(site: OpenSite) -> None:
    open_site = site(echo={"first_token": "300ms"})
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            calls = (client.post(PATH, json=chat("one two three"), headers=KEY) for _ in range(100))
            answers = await asyncio.gather(*calls)
            after = await client.post(PATH, json=chat("one two three"), headers=KEY)
    served = [answer for answer in answers if answer.status_code == 200]
    assert len([answer for answer in served if "idempotency-replayed" not in answer.headers]) == 1
    assert {answer.status_code for answer in answers} == {200, 409}
    assert {answer.content for answer in [*served, after]} == {served[0].content}
    outcomes = [line["outcome"] for line in open_site.log()]
    assert outcomes.count("ok") == 1 and set(outcomes) == {"ok", "replayed", "request_in_progress"}
    with open_office(open_site.settings) as office:
        usage = [record for record in office.usage_store.records(UsageQuery()) if record.outcome != "replayed"]
        assert [(record.outcome, record.completion_tokens) for record in usage] == [("ok", 3)]


async def test_while_the_first_runs_a_repeat_is_told_to_wait(site: OpenSite) -> None:
    engine = EchoEngine(failures=[PlannedFailure("one", "stall", after=1)])
    open_site = site(engine)
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            running = asyncio.create_task(client.post(PATH, json=chat(), headers=KEY))
            await eventually(lambda: engine.running == 1)
            response = await client.post(PATH, json=chat(), headers=KEY)
            error_of(response, 409, "request_in_progress")
            assert_says_when_to_come_back(response)
            running.cancel()


async def test_another_body_under_the_same_key_is_refused_and_no_sdk_repeats_that(site: OpenSite) -> None:
    client = site().client()
    await client.post(PATH, json=chat(), headers=KEY)
    response = await client.post(PATH, json=chat("another"), headers=KEY)
    error_of(response, 409, "idempotency_key_reused")
    assert response.headers["x-should-retry"] == "false" and "retry-after" not in response.headers


async def test_a_key_is_its_holders_and_its_paths_own(site: OpenSite) -> None:
    open_site = site()
    keyring = build_keyring(open_site.settings)
    client = open_site.client()
    assert (await client.post(PATH, json=chat(), headers=KEY)).status_code == 200
    others = {"authorization": f"Bearer {keyring.mint('ward', 'another')[1].reveal()}"}
    for path, headers in ((PATH, KEY | others), (DATED, KEY), (PATH, {"idempotency-key": "9b1f-4d"})):
        response = await client.post(path, json=chat(), headers=headers)
        assert response.status_code == 200 and "idempotency-replayed" not in response.headers


@pytest.mark.parametrize("stream", [False, True])
async def test_what_failed_before_it_began_runs_again(site: OpenSite, stream: bool) -> None:
    engine = RecordingEngine((), EngineUnavailable())
    client = site(engine).client()
    for asked in (1, 2):
        error_of(await client.post(PATH, json=chat(stream=stream), headers=KEY), 503, "engine_unavailable")
        assert len(engine.asked) == asked
    engine.items, engine.error = (ROLE, word("one")) if stream else (WHOLE,), None
    assert (await client.post(PATH, json=chat(stream=stream), headers=KEY)).status_code == 200


async def test_what_was_refused_runs_again_also_with_a_body_that_was_put_right(site: OpenSite) -> None:
    client = site(quotas={"defaults": {"key": {"requests_per_minute": 1}}}).client()
    error_of(await client.post(PATH, json=chat(temperature=99), headers=KEY), 400, "invalid_request")
    assert (await client.post(PATH, json=chat(), headers=KEY)).status_code == 200
    over = {"idempotency-key": "over"}
    error_of(await client.post(PATH, json=chat(), headers=over), 429, "rate_limit_exceeded")
    error_of(await client.post(PATH, json=chat(), headers=over), 429, "rate_limit_exceeded")
    assert (await client.post(PATH, json=chat(), headers=KEY)).headers["idempotency-replayed"]  # costs nothing


async def test_a_stream_that_broke_is_not_kept(site: OpenSite) -> None:
    client = site(echo={"failures": [{"when": "DIE", "action": "die", "after": 2}]}).client()
    for _ in range(2):
        response = await client.post(PATH, json=chat("DIE one two", stream=True), headers=KEY)
        assert b"engine_failed" in response.content and "idempotency-replayed" not in response.headers


@pytest.mark.parametrize("stream", [False, True])
async def test_whoever_leaves_before_the_end_finds_the_key_free_again(site: OpenSite, stream: bool) -> None:
    engine = EchoEngine(failures=[PlannedFailure("STALL", "stall", after=1)])
    open_site = site(engine)
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.post(PATH, json=chat("STALL one two", stream=stream), headers=KEY, timeout=1)
            await eventually(lambda: engine.running == 0 and len(open_site.log()) == 1)
            engine._failures = ()
            response = await client.post(PATH, json=chat("STALL one two", stream=stream), headers=KEY)
    assert response.status_code == 200 and "idempotency-replayed" not in response.headers
    assert [line["outcome"] for line in open_site.log()] == ["client_left", "ok"]


async def test_an_answer_that_is_too_large_is_not_kept_and_runs_again(site: OpenSite) -> None:
    client = site(idempotency={"max_answer": 1000}).client()
    for stream in (False, True):
        headers = {"idempotency-key": f"large-{stream}"}
        for _ in range(2):
            response = await client.post(PATH, json=chat("word " * 500, stream=stream), headers=headers)
            assert response.status_code == 200 and "idempotency-replayed" not in response.headers


@pytest.mark.parametrize("key", ["", "a b", "k" * 256, "ä", "\x7f", "\t"])
async def test_a_key_that_is_none_is_refused_without_repeating_it(site: OpenSite, key: str) -> None:
    client = site(RecordingEngine()).client()
    headers = [(b"idempotency-key", key.encode("latin-1")), *client.headers.raw]
    response = await client.post(PATH, json=chat(), headers=headers)
    error = error_of(response, 400, "invalid_request")
    assert error["param"] == "idempotency-key" and "255" in error["message"]


async def test_the_longest_key_is_taken_and_two_are_refused(site: OpenSite) -> None:
    client = site().client()
    assert (await client.post(PATH, json=chat(), headers={"idempotency-key": "~" * 255})).status_code == 200
    twice = [("idempotency-key", "a"), ("idempotency-key", "a"), *client.headers.multi_items()]
    error_of(await client.post(PATH, json=chat(), headers=twice), 400, "invalid_request")


async def test_without_a_credential_a_key_opens_nothing(site: OpenSite) -> None:
    open_site = site()
    assert (await open_site.client().post(PATH, json=chat(), headers=KEY)).status_code == 200
    error_of(await open_site.client(**KEY).post(PATH, json=chat()), 401, "invalid_api_key")


async def test_the_books_tell_of_a_replay_without_tokens(site: OpenSite) -> None:
    open_site = site()
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            first = await client.post(PATH, json=chat("one two three", temperature=0.5), headers=KEY)
            again = await client.post(PATH, json=chat("one two three", temperature=0.5), headers=KEY)
            metrics = (await client.get("/metrics")).text
    log = open_site.log()
    assert [(line["outcome"], line["deployment"], line["completion_tokens"]) for line in log] == [
        ("ok", "echo", 3), ("replayed", "echo", 0),
    ]  # fmt: skip
    assert 'operation="chat",outcome="replayed"' in metrics
    with open_office(open_site.settings) as office:
        usage = {record.outcome: record for record in office.usage_store.records(UsageQuery())}
        said = [details_of(office.audit_store, response) for response in (first, again)]
    assert (usage["ok"].completion_tokens, usage["replayed"].completion_tokens) == (3, 0)
    assert (usage["replayed"].prompt_tokens, usage["replayed"].operation) == (0, "chat")
    assert [one["outcome"] for one in said] == ["ok", "replayed"]
    same = ("prompt", "answers", "parameters", "deployment", "model", "key_name", "status")
    assert {name: said[0][name] for name in same} == {name: said[1][name] for name in same}
    assert said[1]["completion_tokens"] == 0 and said[1]["prompt"]


def details_of(store: Any, response: httpx.Response) -> Tree:
    (record,) = store.find(AuditQuery(request_id=response.headers["x-request-id"])).items
    details: Tree = json.loads(record.body)["details"]
    return details


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """One to take away."""
    if not installed():
        missing("redis-server")
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


async def test_two_gateways_on_one_redis_answer_once_and_tell_redis_nothing(
    site: OpenSite, server: RedisServer
) -> None:
    gateways = [
        site(quotas={"redis": server.url, "redis_timeout": "5s"}, echo={"first_token": "150ms"}) for _ in range(2)
    ]
    with listening(gateways[0].app) as one, listening(gateways[1].app) as other:
        async with gateways[0].client(one) as first, gateways[1].client(other) as second:
            body = chat("Miss Canary, lisinopril 10 mg")
            calls = [each.post(PATH, json=body, headers=KEY) for _ in range(10) for each in (first, second)]
            answers = await asyncio.gather(*calls)
            after = [await each.post(PATH, json=body, headers=KEY) for each in (first, second)]
            with redis.Redis.from_url(server.socket_url) as client:
                (name,) = client.scan_iter("*repeats*")
                kept = f"{name} {client.hgetall(name)}"
            server.kill()
            refused = await first.post(PATH, json=body, headers=KEY)
            plain = await first.post(PATH, json=body)
            away = (await first.get("/metrics")).text
    assert sum(answer.status_code == 200 and "idempotency-replayed" not in answer.headers for answer in answers) == 1
    assert [answer.headers["idempotency-replayed"] for answer in after] == ["true", "true"]
    assert after[0].content == after[1].content
    assert not [text for text in ("Canary", "lisinopril", "9b1f-4c", "ward", "echo") if text in kept]
    error_of(refused, 503, "repeats_unavailable")
    assert_says_when_to_come_back(refused)
    assert plain.status_code == 200
    assert "clinserve_repeats_away_total 1.0" in away


def test_openais_client_gets_its_answer_again_and_its_own_exceptions(site: OpenSite) -> None:
    open_site = site()
    with (
        listening(open_site.app) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key=open_site.key) as client,
    ):
        ask = client.chat.completions.create
        said: list[Any] = [{"role": "user", "content": "one two"}]
        first, again = (ask(model="echo", messages=said, extra_headers=KEY) for _ in range(2))
        assert first == again
        chunks = [list(ask(model="echo", messages=said, stream=True, extra_headers=OTHER)) for _ in range(2)]
        assert chunks[0] == chunks[1] and len(chunks[0]) > 2
        with pytest.raises(openai.ConflictError) as error:
            ask(model="echo", messages=said, temperature=0, extra_headers=KEY)
        assert error.value.code == "idempotency_key_reused"
    assert len(open_site.log()) == 5  # it did not try the last again


OTHER = {"idempotency-key": "another"}


def test_a_batch_is_submitted_once(site: OpenSite) -> None:
    open_site: Site = site()
    line = {"custom_id": "1", "method": "POST", "url": PATH, "body": chat()}
    with (
        listening(open_site.app) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key=open_site.key) as client,
    ):
        file = client.files.create(file=("notes.jsonl", json.dumps(line).encode()), purpose="batch")
        ids = {
            client.batches.create(
                input_file_id=file.id,
                endpoint=PATH,
                completion_window="24h",
                extra_headers=KEY,  # type: ignore[arg-type]
            ).id
            for _ in range(2)
        }
        assert len(ids) == 1 == len(list(client.batches.list()))
