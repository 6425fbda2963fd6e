"""The request log: what a line holds, and what neither it nor anything else that is kept or told ever holds."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.telemetry.logs import JsonLog, NoLog
from serving.telemetry.record import RequestRecord
from tests.conftest import OpenSite
from tests.local import RecordingEngine, chat, listening

CANARY = "Zebulon-Quackenbush-19470231"
FIELDS = [
    "time", "level", "event", "request_id", "trace_id", "span_id", "method", "route", "status", "outcome", "tenant",
    "key_id", "key_prefix", "address", "deployment", "adapter", "stream", "prompt_tokens", "cached_tokens",
    "completion_tokens", "tokens_estimated", "ttft_ms", "tpot_ms", "duration_ms",
]  # fmt: skip


async def test_a_line_says_who_asked_for_what_and_how_it_went(site: OpenSite) -> None:
    open_site = site()
    response = await open_site.client().post("/v1/chat/completions", json=chat("one two three", stream=True))
    (line,) = open_site.log()
    assert list(line) == FIELDS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert 0 <= line.pop("ttft_ms") <= line.pop("duration_ms") and line.pop("tpot_ms") >= 0
    assert line == {
        "level": "info", "event": "request", "request_id": response.headers["x-request-id"], "trace_id": "",
        "span_id": "", "method": "POST", "status": 200,
        "route": "/v1/chat/completions", "outcome": "ok", "tenant": "ward", "key_id": open_site.key[4:12],
        "key_prefix": open_site.key[:12], "address": "127.0.0.1", "deployment": "echo", "adapter": "", "stream": True,
        "prompt_tokens": 3, "cached_tokens": 0, "completion_tokens": 3, "tokens_estimated": False,
    }  # fmt: skip


async def test_a_request_that_got_nowhere_has_a_line_with_the_reason(site: OpenSite) -> None:
    open_site = site()
    client = open_site.client()
    await client.get("/nothing")
    await client.post("/v1/chat/completions", json=chat(model="nobody"))
    await client.post("/v1/chat/completions", json=chat(n=100))
    assert [(line["route"], line["outcome"], line["deployment"]) for line in open_site.log()] == [
        ("other", "not_found", ""),
        ("/v1/chat/completions", "model_not_found", ""),
        ("/v1/chat/completions", "invalid_request", "echo"),
    ]


async def test_what_a_client_sends_or_gets_is_in_no_log_no_metric_and_no_error(
    site: OpenSite, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    failures = [{"when": "BREAK", "action": "die", "after": 2}]
    open_site = site(echo={"failures": failures, "max_model_len": 20})
    told: list[str] = []
    async with open_site.client() as client:
        headers = {"x-request-id": CANARY, "x-tenant-id": CANARY, "user-agent": CANARY, CANARY: CANARY}
        client.headers.update(headers)
        for body in (
            chat(CANARY), chat(CANARY, stream=True), chat(f"a {CANARY} BREAK", stream=True), chat(CANARY, user=CANARY),
        ):  # fmt: skip
            assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
        wrong: list[Any] = [
            chat(f"{CANARY} " * 30), chat(CANARY, model=CANARY), chat(CANARY, **{CANARY: 1}), chat(CANARY, n=CANARY),
            chat(CANARY, metadata={CANARY: 1}, temperature=9), chat(CANARY, prompt_embeds=CANARY), [CANARY], CANARY,
            {"messages": [{"role": CANARY, "content": {CANARY: 1}}], "model": "echo"}, chat(CANARY, stop=[CANARY] * 20),
            chat(CANARY, response_format={"type": CANARY}), chat(tools=[{"type": CANARY}]), {"model": "echo"},
        ]  # fmt: skip
        for body in wrong:
            told.append(await refused(client.post("/v1/chat/completions", json=body)))
        told.append(await refused(client.post("/v1/chat/completions", content=CANARY)))
        for path in (f"/{CANARY}", f"/v1/models/{CANARY}", f"/v1/chat/completions?{CANARY}={CANARY}"):
            told.append(await refused(client.get(path)))
        told.append(await refused(client.request(CANARY, "/v1/models")))
        for key in (f"Bearer {CANARY}", f"Bearer {open_site.key[:-1]}!", CANARY):
            told.append(await refused(client.get("/v1/models", headers={"authorization": key})))
        told.append((await client.get("/metrics")).text)
    log = Path(open_site.settings.server.state_dir / "logs" / "requests.jsonl").read_text()
    kept = [log, *told, *capfd.readouterr(), *[r.getMessage() for r in caplog.records if r.name != "httpx"]]
    assert len(open_site.log()) == 4 + len(told) - 1
    assert [text for text in kept if CANARY.lower() in text.lower() or open_site.key[13:] in text] == []


async def refused(response: Awaitable[httpx.Response]) -> str:
    answer = await response
    assert 400 <= answer.status_code < 500, answer.text
    return str(answer.headers) + answer.text


async def test_an_exception_with_a_prompt_in_its_text_leaves_only_its_kind_and_place(
    site: OpenSite, capfd: pytest.CaptureFixture[str]
) -> None:
    open_site = site(RecordingEngine((), ValueError(CANARY)))
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            response = await client.post("/v1/chat/completions", json=chat(CANARY))
    broke, _ = open_site.log()
    assert list(broke) == ["time", "level", "event", "request_id", "trace_id", "span_id", "route", "error", "at"]
    assert (broke["level"], broke["error"]) == ("error", "ValueError")
    assert all(re.fullmatch(r"[\w.]+:\d+ [\w<>]+", place) for place in broke["at"])
    assert CANARY not in str(open_site.log()) + response.text + "".join(capfd.readouterr())


def test_lines_are_whole_and_in_a_file_of_the_owners_own(tmp_path: Path) -> None:
    record = RequestRecord(request_id="req_1", method="GET")
    first, second = (JsonLog.in_file(tmp_path / "logs" / "requests.jsonl") for _ in range(2))
    for log in (first, second, first):
        log.finished(record)
    assert len([json.loads(line) for line in (tmp_path / "logs" / "requests.jsonl").read_text().splitlines()]) == 3
    assert (tmp_path / "logs").stat().st_mode & 0o077 == 0


KINDS = [("ok", 200), ("client_left", 499), ("rate_limit_exceeded", 429), ("not_found", 404), ("engine_failed", 200)]


@pytest.mark.parametrize(
    ("settings", "written"),
    [
        ({}, ["info", "info", "warning", "warning", "error"]),
        ({"level": "warning"}, ["warning", "warning", "error"]),
        ({"level": "error"}, ["error"]),
        ({"share": 0.5, "draw": iter([0.4, 0.6]).__next__}, ["info", "warning", "warning", "error"]),
        ({"share": 0.0}, ["warning", "warning", "error"]),
    ],
)
def test_level_and_share_leave_out_what_went_well_and_never_a_failure(
    settings: dict[str, Any], written: list[str]
) -> None:
    stream = io.StringIO()
    log = JsonLog(stream, **settings)
    for outcome, status in KINDS:
        log.finished(RequestRecord(request_id="req_1", method="GET", outcome=outcome, status=status))
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == written


def test_the_heads_of_audit_chains_are_written_whatever_the_level() -> None:
    stream = io.StringIO()
    JsonLog(stream, level="error", share=0.0).anchored("chain", 7, "hash")
    assert json.loads(stream.getvalue())["event"] == "audit_checkpoint"


def test_a_log_that_is_off_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    log = NoLog()
    log.finished(RequestRecord(request_id="req_1", method="GET"))
    log.broke(RequestRecord(request_id="req_1", method="GET"), ValueError())
    assert capfd.readouterr() == ("", "")


def test_standard_output_gets_the_same_line(capsys: pytest.CaptureFixture[str]) -> None:
    JsonLog.on_stdout().finished(RequestRecord(request_id="req_1", method="GET", tenant='"\n'))
    assert list(json.loads(capsys.readouterr().out)) == FIELDS


def test_only_the_last_places_of_a_deep_exception_are_told() -> None:
    def deeper(depth: int) -> None:
        if not depth:
            raise RuntimeError(CANARY)
        deeper(depth - 1)

    stream = io.StringIO()
    with pytest.raises(RuntimeError) as error:
        deeper(30)
    JsonLog(stream).broke(RequestRecord(request_id="req_1", method="GET"), error.value)
    assert json.loads(stream.getvalue())["at"][-1].endswith(" deeper")
    assert len(json.loads(stream.getvalue())["at"]) == 8
