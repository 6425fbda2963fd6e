"""Files and batches over HTTP: both clients of the openai package, Azure's paths, errors, tenants, limits, privacy."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest

from serving.app import open_office
from tests.batches.conftest import jsonl, line, rows
from tests.batches.test_batches import ended, submitted
from tests.local import Site, listening

CANARY = "Zebulon-Quackenbush-19470231"
V1 = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}


@pytest.fixture
def place(site: Callable[..., Site]) -> Site:
    return site(batches={"max_file": 20_000, "max_files": 3, "max_batches": 2}, quotas={"refresh": 0.05})


@pytest.fixture
def url(place: Site) -> Iterator[str]:
    with listening(place.app) as url:
        yield url


@pytest.fixture
def client(place: Site, url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=place.key, max_retries=0)


@pytest.fixture
def other(place: Site, url: str) -> openai.OpenAI:
    """Another tenant's client."""
    with open_office(place.settings) as office:
        office.administration.create_tenant(office.actor, "lab", "Laboratory")
        _, secret = office.administration.create_key(office.actor, "lab", "tests")
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=secret.reveal(), max_retries=0)
    for _ in range(100):  # the gateway hears of new tenants now and then
        with contextlib.suppress(openai.PermissionDeniedError):
            client.files.list()
            break
        time.sleep(0.05)
    return client


def azure(place: Site, url: str, **options: Any) -> openai.AzureOpenAI:
    return openai.AzureOpenAI(azure_endpoint=url, api_key=place.key, api_version="2024-10-21", max_retries=0, **options)


def upload(client: openai.OpenAI, count: int = 1, **options: Any) -> Any:
    file = ("notes.jsonl", jsonl([line(n) for n in range(count)]))
    return client.files.create(file=file, purpose="batch", **options)


def test_a_file_goes_up_is_listed_comes_down_and_goes(client: openai.OpenAI) -> None:
    file = upload(client, expires_after={"anchor": "created_at", "seconds": 7200})
    assert (file.object, file.purpose, file.filename, file.status) == ("file", "batch", "notes.jsonl", "processed")
    assert file.expires_at == file.created_at + 7200 and file.bytes == len(jsonl([line(0)]))
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == jsonl([line(0)])
    assert [one.id for one in client.files.list()] == [file.id]
    assert client.files.list(purpose="batch_output").data == []
    deleted = client.files.delete(file.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (file.id, True, "file")
    with pytest.raises(openai.NotFoundError) as error:
        client.files.retrieve(file.id)
    assert error.value.code == "file_not_found" and error.value.request_id


async def test_the_asynchronous_client_does_the_same(place: Site, url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=place.key) as client:
        file = await client.files.create(file=("n.jsonl", jsonl([line(1)])), purpose="batch")
        batch = await client.batches.create(input_file_id=file.id, **V1)  # type: ignore[arg-type]
        while batch.status not in ("completed", "failed"):
            await asyncio.sleep(0.02)
            batch = await client.batches.retrieve(batch.id)
        assert batch.output_file_id
        content = await client.files.content(batch.output_file_id)
        assert [row["custom_id"] for row in rows(content.text)] == ["t-1"]
        assert [one.id async for one in client.batches.list(limit=1)] == [batch.id]
        assert len([one.id async for one in client.files.list(limit=1)]) == 2


@pytest.mark.parametrize("options", [{}, {"azure_deployment": "echo"}])
def test_azures_client_does_the_same(place: Site, url: str, options: dict[str, str]) -> None:
    client = azure(place, url, **options)
    file = client.files.create(file=("n.jsonl", jsonl([line(1, url="/chat/completions")])), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/chat/completions",  # type: ignore[arg-type]
        completion_window="24h",
        metadata={"a": "b"},
        output_expires_after={"anchor": "created_at", "seconds": 1209600},
    )
    assert batch.endpoint == "/chat/completions"
    batch = ended(client, batch)
    assert batch.status == "completed" and batch.output_file_id
    output = client.files.retrieve(batch.output_file_id)
    assert (output.purpose, output.expires_at) == ("batch_output", output.created_at + 1209600)
    assert len(rows(client.files.content(batch.output_file_id).text)) == 1
    assert [one.id for one in client.batches.list(limit=1)] == [batch.id]
    with pytest.raises(openai.NotFoundError):
        client.batches.cancel("batch_none")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/batches", ""),
        ("/openai/v1/batches", ""),
        ("/openai/v1/batches", "?api-version=preview"),
        ("/openai/batches", "?api-version=2024-10-21"),
        ("/openai/deployments/echo/batches", "?api-version=2024-10-21"),
        ("//openai/batches", "?api-version=2025-04-01-preview"),
    ],
)
def test_a_batch_is_created_at_every_path_that_clients_use(
    client: openai.OpenAI, place: Site, url: str, path: str, query: str
) -> None:
    """The last but one is the JavaScript client's; `anchor` beside the others is from Azure's documentation."""
    file = upload(client)
    body = {"input_file_id": file.id, **V1, "anchor": "created_at", "output_expires_after": {"seconds": 86400}}
    answer = httpx.post(url + path + query, json=body, headers={"api-key": place.key})
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "validating" and answer.json()["object"] == "batch"
    assert ended(client, client.batches.retrieve(answer.json()["id"])).status == "completed"


def test_states_are_lower_case_times_integers_and_lists_say_whether_there_is_more(client: openai.OpenAI) -> None:
    batch = ended(client, submitted(client, [line(1), line(2, url="/v1/embeddings")]))
    raw = batch.model_dump()
    assert raw["status"] == "failed" and raw["errors"]["object"] == "list"
    assert raw["errors"]["data"][0].keys() == {"code", "message", "param", "line"}
    assert all(value is None or type(value) is int for name, value in raw.items() if name.endswith("_at"))
    assert raw["expires_at"] == raw["created_at"] + 86400 and raw["failed_at"] and raw["completed_at"] is None
    assert raw["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    page = client.batches.list(limit=1).model_dump()
    assert (page["has_more"], page["first_id"], page["last_id"]) == (False, batch.id, batch.id)


def test_both_spellings_of_expires_after_are_taken(place: Site, url: str) -> None:
    for name in ("expires_after[{}]", "expires_after.{}"):
        fields = {"purpose": "batch", name.format("anchor"): "created_at", name.format("seconds"): "3600"}
        answer = httpx.post(
            f"{url}/v1/files", data=fields, files={"file": ("a", b"{}")}, headers={"api-key": place.key}
        ).json()
        assert answer["expires_at"] == answer["created_at"] + 3600


@pytest.mark.parametrize(
    "fields",
    [
        {"purpose": "assistants"},
        {},
        {"purpose": "batch", "expires_after[seconds]": "60"},
        {"purpose": "batch", "expires_after[seconds]": "soon"},
        {"purpose": "batch", "expires_after[seconds]": "7200", "expires_after[anchor]": "now"},
        {"purpose": "batch", "expires_after[anchor]": "now"},
    ],
)
def test_an_upload_that_is_refused_leaves_nothing(place: Site, url: str, fields: dict[str, str]) -> None:
    headers = {"api-key": place.key}
    answer = httpx.post(f"{url}/v1/files", data=fields, files={"file": ("a", b"{}")}, headers=headers)
    assert answer.status_code == 400 and answer.json()["error"]["param"] in ("purpose", "expires_after")
    assert httpx.get(f"{url}/v1/files", headers=headers).json()["data"] == []
    assert list((place.settings.server.state_dir / "files").iterdir()) == []


def test_errors_are_the_sdks_exceptions(client: openai.OpenAI, url: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.batches.create(input_file_id="file-0", endpoint="/v1/images", completion_window="24h")  # type: ignore[arg-type]
    assert error.value.param == "endpoint"
    with pytest.raises(openai.NotFoundError) as missing:
        client.batches.create(input_file_id="file-0", **V1)  # type: ignore[arg-type]
    assert missing.value.code == "file_not_found"
    with pytest.raises(openai.NotFoundError):
        client.files.content("file-0\0")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{url}/v1", api_key="wrong").files.list()
    with pytest.raises(openai.BadRequestError, match="after"):
        client.batches.list(after="batch_none")
    upload_id = upload(client).id
    with pytest.raises(openai.BadRequestError, match="metadata"):
        client.batches.create(input_file_id=upload_id, metadata={"a": "b" * 600}, **V1)  # type: ignore[arg-type]
    batch = ended(client, client.batches.create(input_file_id=upload_id, **V1))  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError) as over:
        client.batches.cancel(batch.id)
    assert over.value.code == "batch_ended"
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.batches.create(input_file_id=str(batch.output_file_id), **V1)  # type: ignore[arg-type]


def test_what_is_another_tenants_is_not_there(client: openai.OpenAI, other: openai.OpenAI) -> None:
    file = upload(client)
    batch = ended(client, client.batches.create(input_file_id=file.id, **V1))  # type: ignore[arg-type]
    for reach in (
        lambda: other.files.retrieve(file.id),
        lambda: other.files.content(file.id),
        lambda: other.files.content(str(batch.output_file_id)),
        lambda: other.files.delete(file.id),
        lambda: other.batches.create(input_file_id=file.id, **V1),  # type: ignore[arg-type]
        lambda: other.batches.retrieve(batch.id),
        lambda: other.batches.cancel(batch.id),
    ):
        with pytest.raises(openai.NotFoundError):
            reach()
    assert other.files.list().data == [] and other.batches.list().data == []
    assert client.files.retrieve(file.id).id == file.id


def test_limits_hold(client: openai.OpenAI, site: Callable[..., Site], place: Site) -> None:
    with pytest.raises(openai.APIStatusError) as large:
        client.files.create(file=("a", b"x" * 30_000), purpose="batch")
    assert large.value.status_code == 413
    for _ in range(3):
        upload(client)
    with pytest.raises(openai.BadRequestError) as many:
        upload(client)
    assert many.value.code == "quotaExceeded" and "at most 3" in many.value.message
    assert len(list((place.settings.server.state_dir / "files").iterdir())) == 3


def test_a_file_that_a_batch_reads_cannot_be_deleted(site: Callable[..., Site]) -> None:
    place = site(echo={"first_token": 0.3}, batches={"max_batches": 1})
    with listening(place.app) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=place.key, max_retries=0)
        batch = submitted(client, [line(n) for n in range(100)])
        with pytest.raises(openai.BadRequestError) as used:
            client.files.delete(batch.input_file_id)
        assert used.value.code == "file_in_use"
        with pytest.raises(openai.BadRequestError) as many:
            client.batches.create(input_file_id=batch.input_file_id, **V1)  # type: ignore[arg-type]
        assert many.value.code == "batch_limit_exceeded"
        client.batches.cancel(batch.id)
        ended(client, batch)
        assert client.files.delete(batch.input_file_id).deleted


def test_a_batch_survives_its_server(site: Callable[..., Site]) -> None:
    place = site(echo={"first_token": 0.1})
    with listening(place.app) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=place.key)
        batch = submitted(client, [line(n) for n in range(200)])
        while not (counts := client.batches.retrieve(batch.id).request_counts) or counts.completed < 10:
            time.sleep(0.02)
    place = site(echo={"first_token": 0})
    with listening(place.app) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=place.key)
        batch = ended(client, batch)
        answers = rows(client.files.content(str(batch.output_file_id)).text)
        assert sorted(one["custom_id"] for one in answers) == sorted(f"t-{n}" for n in range(200))


def test_lines_are_requests_like_others_in_the_log_and_the_ledger(client: openai.OpenAI, place: Site) -> None:
    batch = ended(client, submitted(client, [line(n) for n in range(7)]))
    logged = [one for one in place.log() if one.get("route") == "/v1/chat/completions"]
    assert len(logged) == 7 and {one["tenant"] for one in logged} == {"ward"}
    answers = rows(client.files.content(str(batch.output_file_id)).text)
    assert {one["request_id"] for one in logged} == {one["response"]["request_id"] for one in answers}
    assert batch.usage and batch.usage.output_tokens == sum(one["completion_tokens"] for one in logged)


def test_content_is_in_no_log_and_sealed_in_the_database(
    site: Callable[..., Site], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    place = site(echo={"first_token": 0.05})
    state = place.settings.server.state_dir
    with caplog.at_level(logging.DEBUG, "serving"), listening(place.app) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=place.key, max_retries=0)
        good, bad = line(1, CANARY), line(2, CANARY)
        bad["body"] |= {"temperature": 99, CANARY: CANARY}
        batch = submitted(client, [good, bad, *[line(n, CANARY) for n in range(3, 400)]])
        found = b""
        while client.batches.retrieve(batch.id).status != "completed":
            with sqlite3.connect(state / "clinserve.db") as database:
                kept = database.execute("SELECT text FROM batch_results LIMIT 50").fetchall()
            found = found or b"".join(text for (text,) in kept)
        assert found and CANARY.encode() not in found
        broken = submitted(client, [{"custom_id": CANARY * 30, "method": CANARY, CANARY: CANARY}])
        assert CANARY not in ended(client, broken).model_dump_json()
        with pytest.raises(openai.BadRequestError) as error:
            client.batches.create(input_file_id=CANARY * 10, endpoint=CANARY, completion_window=CANARY)  # type: ignore[arg-type]
        assert CANARY not in str(error.value)
        failed = client.batches.retrieve(batch.id)
        assert CANARY not in json.dumps(rows(client.files.content(str(failed.error_file_id)).text)[0]["response"])
    for file in [*state.glob("clinserve.db*"), *(state / "logs").iterdir()]:
        assert CANARY.encode() not in file.read_bytes(), file
    assert CANARY not in caplog.text
    captured = capfd.readouterr()
    assert CANARY not in captured.out + captured.err
    assert all(file.stat().st_mode & 0o77 == 0 for file in [state / "files", *(state / "files").iterdir()])


def test_a_revoked_key_takes_the_rest_of_its_batch_with_it(site: Callable[..., Site]) -> None:
    place = site(echo={"first_token": 0.05}, batches={"lines": 1}, keys={"cache": 0.2})
    with open_office(place.settings) as office:
        office.administration.create_tenant(office.actor, "lab", "Laboratory")
        leaked, secret = office.administration.create_key(office.actor, "lab", "leaked")
        _, other = office.administration.create_key(office.actor, "lab", "other")
        with listening(place.app) as url:
            thief, owner = (
                openai.OpenAI(base_url=f"{url}/v1", api_key=text.reveal(), max_retries=0) for text in (secret, other)
            )
            batch = submitted(thief, [line(n) for n in range(40)])
            office.administration.revoke_key(office.actor, leaked.id)
            batch = ended(owner, batch)
            failed = rows(owner.files.content(batch.error_file_id or "").text)
    assert len(failed) > 20 and {row["response"]["body"]["error"]["code"] for row in failed} == {"invalid_api_key"}
