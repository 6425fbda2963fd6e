"""Whatever an endpoint elsewhere sends: the client has its answer, and the books have numbers that can be."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.app import open_office
from serving.tenants.audit_store import AuditQuery
from serving.tenants.ledger import UsageQuery, UsageRecord
from serving.tenants.paging import PageRequest
from tests.conftest import settings_of, site_of
from tests.doubles.endpoint_habits import COMPARABLE, HABITS, Habit, behaving
from tests.doubles.scripted_endpoint import Body, Reply, scripted
from tests.local import DONE, AsOperator, Site, events, listening, word


def script(path: str, body: Body) -> Reply:
    return NO_JSON if "no JSON" in json.dumps(body) else behaving(path, body)


NO_JSON = Reply((word("one "), b'data: {"choices": [\n\n', word("two "), DONE))
"""Chat passes it on as it is; as a response it cannot be told."""


@dataclass(frozen=True)
class Place:
    """A gateway before an endpoint of every habit."""

    site: Site
    http: httpx.Client

    def ask(self, path: str, habit: str, **fields: Any) -> httpx.Response:
        text = f"habit: {habit}"
        content = {
            "/v1/chat/completions": {"messages": [{"role": "user", "content": text}]},
            "/v1/completions": {"prompt": text},
        }.get(path, {"input": text})
        return self.http.post(path, json={"model": "m", **content, **fields})

    def booked(self, request_id: str) -> UsageRecord:
        return next(record for record in self.ledger() if record.id == request_id)

    def audited(self, request_id: str) -> Any:
        with open_office(self.site.settings) as office:
            query = AuditQuery(request_id=request_id, page=PageRequest(1))
            (record,) = office.audit_store.find(query).items
        return json.loads(record.body)["details"]

    def logged(self, request_id: str) -> Any:
        return next(line for line in self.site.log() if line.get("request_id") == request_id)

    def ledger(self) -> list[UsageRecord]:
        time.sleep(0.2)  # a few times usage.flush
        with open_office(self.site.settings) as office:
            return list(office.usage_store.records(UsageQuery()))


@pytest.fixture(scope="module")
def place(installed: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    template, key = installed
    state = tmp_path_factory.mktemp("habits") / "state"
    shutil.copytree(template, state)
    with scripted(script) as endpoint:
        engine = {"kind": "http", "url": endpoint, "breaker": {"failures": 1000}}
        settings = settings_of(
            state,
            deployments=[{"name": "m", "engine": engine}],
            usage={"flush": 0.02},
            audit={"flush": 0.02},
        )
        site = site_of(settings, key)
        with listening(site.app) as url, httpx.Client(base_url=url, timeout=20, auth=AsOperator(site)) as http:
            http.headers["authorization"] = f"Bearer {key}"
            yield Place(site, http)


def check_books(record: UsageRecord, habit: Habit) -> None:
    assert (record.outcome, record.estimated, record.cached_tokens) == ("ok", habit.estimated, habit.cached)
    for booked, expected in ((record.prompt_tokens, habit.prompt), (record.completion_tokens, habit.completion)):
        assert booked == expected if expected is not None else 0 < booked < 1000


ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/responses")


@pytest.mark.parametrize("path", ROUTES)
def test_a_stream_of_any_habit_is_whole_and_in_the_books(place: Place, path: str) -> None:
    answers = {name: place.ask(path, name, stream=True) for name in HABITS}
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(HABITS, 200)
    rows = {record.id: record for record in place.ledger()}
    for name, answer in answers.items():
        whole = "response.completed" if path == "/v1/responses" else "[DONE]"
        assert whole in answer.text and "error" not in answer.text.replace('"error":null', ""), name
        check_books(rows[answer.headers["x-request-id"]], HABITS[name])


@pytest.mark.parametrize("path", ROUTES)
def test_an_answer_in_one_piece_of_any_habit_is_whole_and_in_the_books(place: Place, path: str) -> None:
    answers = {name: place.ask(path, name) for name in COMPARABLE}
    rows = {record.id: record for record in place.ledger()}
    for name, answer in answers.items():
        assert answer.status_code == 200, (name, answer.text)
        check_books(rows[answer.headers["x-request-id"]], HABITS[name])


def test_embeddings_of_any_habit_are_in_the_books(place: Place) -> None:
    answers = {name: place.ask("/v1/embeddings", name) for name in HABITS}
    rows = {record.id: record for record in place.ledger()}
    for name, answer in answers.items():
        if answer.status_code == 200:
            record = rows[answer.headers["x-request-id"]]
            assert record.outcome == "ok" and 0 < record.prompt_tokens < 1000, name


def test_the_lines_of_a_batch_are_in_the_books_whatever_their_endpoint_says(place: Place) -> None:
    lines = [
        {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": [
            {"role": "user", "content": f"habit: {name}"}]}} for name in COMPARABLE
    ]  # fmt: skip
    text = "".join(json.dumps(one) + "\n" for one in lines).encode()
    file = place.http.post("/v1/files", files={"file": ("x.jsonl", io.BytesIO(text))}, data={"purpose": "batch"}).json()
    asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = place.http.post("/v1/batches", json=asked).json()
    for _ in range(200):
        batch = place.http.get(f"/v1/batches/{batch['id']}").json()
        if batch["status"] == "completed":
            break
        time.sleep(0.05)
    assert batch["request_counts"] == {"total": len(COMPARABLE), "completed": len(COMPARABLE), "failed": 0}
    rows = {record.id: record for record in place.ledger()}
    output = place.http.get(f"/v1/files/{batch['output_file_id']}/content").text.splitlines()
    for one in map(json.loads, output):
        check_books(rows[one["response"]["request_id"]], HABITS[one["custom_id"]])


def test_numbers_that_cannot_be_are_counted_and_marked_wherever_they_are_told(place: Place) -> None:
    before = place.http.get("/metrics").text
    answer = place.ask("/v1/chat/completions", "prompt 2**70", stream=True)
    id = answer.headers["x-request-id"]
    assert place.booked(id).estimated and place.audited(id)["tokens_estimated"] and place.logged(id)["tokens_estimated"]
    assert unusable(place.http.get("/metrics").text) == unusable(before) + 1


def test_a_client_of_responses_is_told_no_estimate_as_its_usage(place: Place) -> None:
    assert place.ask("/v1/responses", "prompt -1").json()["usage"] is None
    assert place.ask("/v1/responses", "as it should be").json()["usage"]["total_tokens"] == 13


def test_an_answer_that_cannot_be_translated_has_failed_here_and_costs_what_came(place: Place) -> None:
    answer = place.ask("/v1/responses", "no JSON", stream=True)
    assert "response.failed" in answer.text
    record = place.booked(answer.headers["x-request-id"])
    assert record.outcome == "engine_failed" and record.prompt_tokens > 0 and record.completion_tokens > 0


def unusable(page: str) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if "_unusable_usage_total{" in line)


def test_the_events_of_a_stream_reach_the_client_as_they_came(place: Place) -> None:
    answer = place.ask("/v1/chat/completions", "prompt a text", stream=True, stream_options={"include_usage": True})
    assert events(answer.content)[-2]["usage"]["prompt_tokens"] == "7"
