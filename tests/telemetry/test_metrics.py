"""Metrics: what they count, from which closed sets their labels are, and how several processes add up."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from random import Random

import httpx
import pytest

from serving.telemetry.metrics import MULTIPROCESS_DIR, NoMetrics, PrometheusMetrics
from serving.telemetry.record import RequestRecord
from tests.conftest import OpenSite
from tests.local import chat

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/models", "/v1/models/x", "/livez", "/readyz", "/metrics", "/x"]


def series_in(scrape: str) -> set[str]:
    """Every series, without its value."""
    return {line.rpartition(" ")[0] for line in scrape.splitlines() if line and not line.startswith("#")}


async def knock_everywhere(client: httpx.AsyncClient) -> None:
    """One request for each method and path of the closed sets, and for each way a chat can go wrong."""
    for method in [*METHODS, "BREW"]:
        for path in PATHS:
            await client.request(method, path)
            await client.request(method, path, headers={"authorization": "Bearer wrong"})
    for body in (chat(), chat(stream=True), chat(model="nobody"), chat(n=100), chat(chat_template="x")):
        await client.post(PATHS[0], json=body)


async def test_no_method_path_model_or_key_makes_a_series(site: OpenSite) -> None:
    open_site, random = site(), Random(1)
    client = open_site.client()
    await knock_everywhere(client)
    before = series_in((await client.get("/metrics")).text)

    def name() -> str:
        return "".join(random.choices("abcdefgXYZ019-._%", k=12))

    for _ in range(100):
        method = random.choice([*METHODS, name().replace("%", "")])
        path = random.choice([*PATHS, f"/v1/models/{name()}", f"/{name()}", f"/v1/chat/completions?{name()}={name()}"])
        key = random.choice([f"Bearer {open_site.key}", f"Bearer {name()}", name()])
        body = chat(model=random.choice(["echo", name()])) | random.choice([{}, {name(): 1}, {"stream": True}])
        await client.request(method, path, json=body, headers={"authorization": key, name().replace("%", ""): "x"})
    assert series_in((await client.get("/metrics")).text) == before


async def test_labels_are_routes_deployments_operations_and_outcomes_only(site: OpenSite) -> None:
    client = site().client()
    await knock_everywhere(client)
    text = (await client.get("/metrics")).text
    labels = {name: set(re.findall(rf'[{{,]{name}="([^"]*)"', text)) for name in re.findall(r'[{,]([a-z_]+)="', text)}
    assert labels.keys() == {"route", "method", "status", "deployment", "operation", "outcome", "type", "le"}
    assert labels["route"] == {*PATHS[:3], "/v1/models/{name}", "/livez", "/readyz", "/metrics", "other"}
    assert labels["method"] == {*METHODS, "other"}
    assert (labels["deployment"], labels["operation"]) == ({"echo"}, {"chat"})
    assert labels["outcome"] == {"ok", "invalid_request", "forbidden_field"}


def a_record(**changes: object) -> RequestRecord:
    record = RequestRecord(request_id="req_1", method="POST", route="/v1/chat/completions", status=200)
    record.about("echo", "chat", stream=True)
    for name, value in ({"duration": 2.0, "first_token": 0.5, "completion_tokens": 4} | changes).items():
        setattr(record, name, value)
    return record


def test_the_time_per_token_leaves_the_first_out_and_needs_two() -> None:
    assert a_record().per_token == pytest.approx(0.5)
    assert a_record(completion_tokens=1).per_token is None
    assert a_record(first_token=None).per_token is None
    metrics = PrometheusMetrics()
    metrics.finished(a_record())
    metrics.finished(a_record(completion_tokens=1))
    by = '{deployment="echo",operation="chat"}'
    lines = metrics.scrape()[0].decode().splitlines()
    assert f"gen_ai_server_time_per_output_token_seconds_count{by} 1.0" in lines
    assert f"gen_ai_server_time_per_output_token_seconds_sum{by} 0.5" in lines
    assert f"gen_ai_server_time_to_first_token_seconds_count{by} 2.0" in lines


def test_a_stale_key_is_counted() -> None:
    metrics = PrometheusMetrics()
    metrics.noted("stale_keys")
    assert b"clinserve_stale_keys_total 1.0" in metrics.scrape()[0]


def test_a_request_without_a_deployment_is_only_an_http_request() -> None:
    metrics = PrometheusMetrics()
    metrics.finished(RequestRecord(request_id="req_1", method="GET", status=404))
    assert {s for s in series_in(metrics.scrape()[0].decode()) if "{" in s} == {
        'clinserve_http_requests_total{method="GET",route="other",status="404"}',
        'clinserve_http_requests_created{method="GET",route="other",status="404"}',
    }


def test_metrics_that_are_off_are_an_empty_page() -> None:
    metrics = NoMetrics()
    metrics.entered("echo")
    metrics.finished(a_record())
    metrics.left("echo")
    assert metrics.scrape() == (b"", PrometheusMetrics().scrape()[1])


PROCESS = """
import sys
from serving.telemetry.metrics import PrometheusMetrics
from serving.telemetry.record import RequestRecord
metrics = PrometheusMetrics()
metrics.finished(RequestRecord(request_id="req_1", method="POST", deployment="echo", operation="chat"))
metrics.entered("echo")
print("counted", flush=True)
sys.stdin.read()
"""


def test_processes_of_a_node_are_summed_and_those_that_died_leave_no_live_gauge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MULTIPROCESS_DIR, str(tmp_path))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen([sys.executable, "-c", PROCESS], **pipes) for _ in range(2)]  # type: ignore[call-overload]
    try:
        assert [process.stdout.readline() for process in processes] == [b"counted\n"] * 2
        requests, in_flight = 'clinserve_requests_total{deployment="echo",', 'in_flight{deployment="echo"}'
        assert (value_of(requests), value_of(in_flight)) == (2, 2)
        processes[0].kill()
        processes[0].communicate()
        assert (value_of(requests), value_of(in_flight)) == (2, 1)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def value_of(series: str) -> float:
    scrape = PrometheusMetrics().scrape()[0].decode()
    (line,) = [line for line in scrape.splitlines() if series in line]
    return float(line.rpartition(" ")[2])
