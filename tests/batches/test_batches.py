"""Batches as a user of the openai package sees them, on the echo engine."""

from __future__ import annotations

import time
from collections.abc import Callable

import openai
import pytest
from openai.types import Batch

from tests.batches.conftest import Lines, jsonl, line, rows
from tests.local import Site, listening


def submitted(client: openai.OpenAI, lines: Lines, **changes: object) -> Batch:
    file = client.files.create(file=("notes.jsonl", jsonl(lines)), purpose="batch")
    return client.batches.create(
        **{"input_file_id": file.id, "endpoint": "/v1/chat/completions", "completion_window": "24h"} | changes  # type: ignore[arg-type]
    )


def ended(client: openai.OpenAI, batch: Batch) -> Batch:
    for _ in range(600):
        batch = client.batches.retrieve(batch.id)
        if batch.status in ("completed", "failed", "cancelled", "expired"):
            return batch
        time.sleep(0.02)
    raise AssertionError(batch.status)


def test_a_batch_answers_every_line_in_its_output_file(client: openai.OpenAI) -> None:
    batch = ended(client, submitted(client, [line(n) for n in range(50)], metadata={"study": "a"}))
    assert (batch.status, batch.metadata) == ("completed", {"study": "a"})
    assert batch.request_counts and (batch.request_counts.total, batch.request_counts.completed) == (50, 50)
    assert batch.error_file_id is None and batch.output_file_id and batch.usage
    answers = rows(client.files.content(batch.output_file_id).text)
    assert [one["custom_id"] for one in answers] == [f"t-{n}" for n in range(50)]
    assert all(one["response"]["status_code"] == 200 and one["error"] is None for one in answers)
    assert answers[7]["response"]["body"]["choices"][0]["message"]["content"] == "one two three 7"
    assert batch.usage.output_tokens == sum(a["response"]["body"]["usage"]["completion_tokens"] for a in answers)


def test_a_line_that_is_refused_is_in_the_error_file_with_its_status(client: openai.OpenAI) -> None:
    bad = line(2)
    bad["body"] = bad["body"] | {"temperature": 99}
    batch = ended(client, submitted(client, [line(1), bad, line(3)]))
    assert batch.status == "completed" and batch.error_file_id and batch.output_file_id
    (error,) = rows(client.files.content(batch.error_file_id).text)
    assert (error["custom_id"], error["response"]["status_code"]) == ("t-2", 400)
    assert error["response"]["body"]["error"]["param"] == "temperature"
    assert len(rows(client.files.content(batch.output_file_id).text)) == 2


def test_a_batch_of_responses_answers_with_response_objects_and_counts_their_tokens(client: openai.OpenAI) -> None:
    bodies = [{"model": "echo", "input": f"one two {n}"} for n in range(3)] + [
        {"model": "echo", "input": "x", "background": True},
        {"model": "echo", "input": "x", "tools": [{"type": "web_search"}]},
    ]
    lines = [line(n, url="/v1/responses", body=body) for n, body in enumerate(bodies)]
    batch = ended(client, submitted(client, lines, endpoint="/v1/responses"))
    assert batch.status == "completed" and batch.output_file_id and batch.error_file_id and batch.usage
    answers = [one["response"]["body"] for one in rows(client.files.content(batch.output_file_id).text)]
    assert [a["output"][0]["content"][0]["text"] for a in answers] == ["one two 0", "one two 1", "one two 2"]
    assert batch.usage.output_tokens == sum(a["usage"]["output_tokens"] for a in answers) == 9
    errors = rows(client.files.content(batch.error_file_id).text)
    assert [one["response"]["status_code"] for one in errors] == [400, 400]


@pytest.mark.parametrize(
    ("lines", "code", "number"),
    [
        ([line(1), line(1)], "duplicate_custom_id", 2),
        ([line(1), line(2, url="/v1/embeddings")], "url_mismatch", 2),
        ([line(1, body={"model": "none"})], "model_not_found", 1),
        ([line(1), line(2, body=7)], "invalid_request", 2),
        ([line(1, method="GET")], "invalid_method", 1),
        ([], "empty_file", None),
    ],
)
def test_a_file_that_cannot_be_run_fails_with_the_lines_numbers(
    client: openai.OpenAI, lines: Lines, code: str, number: int | None
) -> None:
    batch = ended(client, submitted(client, lines))
    assert batch.status == "failed" and batch.errors and batch.errors.data
    assert (batch.errors.data[0].code, batch.errors.data[0].line) == (code, number)
    assert batch.output_file_id is None


@pytest.mark.parametrize(
    ("text", "code"), [(b"{no json\n", "invalid_json_line"), (b"\xef\xbb\xbf{}\n", "invalid_json_line")]
)
def test_a_file_that_is_no_json_lines_fails(client: openai.OpenAI, text: bytes, code: str) -> None:
    file = client.files.create(file=("bad.jsonl", text), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    batch = ended(client, batch)
    assert batch.errors and batch.errors.data and batch.errors.data[0].code == code


def test_a_cancelled_batch_keeps_what_it_has_and_says_what_it_did_not_run(site: Callable[..., Site]) -> None:
    place = site(echo={"first_token": 0.5})
    with listening(place.app) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=place.key)
        batch = submitted(client, [line(n) for n in range(300)])
        while (client.batches.retrieve(batch.id).request_counts or batch.request_counts).completed < 5:  # type: ignore[union-attr]
            time.sleep(0.02)
        assert client.batches.cancel(batch.id).status == "cancelling"
        batch = ended(client, batch)
        assert batch.status == "cancelled" and batch.output_file_id and batch.error_file_id
        done = rows(client.files.content(batch.output_file_id).text)
        not_done = rows(client.files.content(batch.error_file_id).text)
        assert sorted(one["custom_id"] for one in done + not_done) == sorted(f"t-{n}" for n in range(300))
        assert {one["error"]["code"] for one in not_done} == {"batch_cancelled"}


def test_lists_page_from_the_newest(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError):
        client.files.create(file=("x", b""), purpose="assistants")
    ids = [ended(client, submitted(client, [line(n)])).id for n in range(3)]
    assert [one.id for one in client.batches.list(limit=2)] == ids[::-1]
    files = list(client.files.list(purpose="batch", limit=2))
    assert len(files) == 3 and files[0].created_at >= files[-1].created_at


def test_a_file_of_a_running_batch_stays_and_a_deleted_one_is_gone(client: openai.OpenAI) -> None:
    batch = ended(client, submitted(client, [line(1)]))
    assert client.files.delete(batch.input_file_id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(batch.input_file_id)
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_0")
    with pytest.raises(openai.BadRequestError, match="completion_window"):
        client.batches.create(input_file_id="file-0", endpoint="/v1/chat/completions", completion_window="1h")  # type: ignore[arg-type]
