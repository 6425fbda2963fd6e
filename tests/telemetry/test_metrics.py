"""Metrics: what they count, from which closed sets their labels are, and how several processes add up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import httpx
import pytest
from prometheus_client.openmetrics import parser as openmetrics

from serving import app as assembly
from serving.telemetry.metrics import MULTIPROCESS_DIR, NoMetrics, PrometheusMetrics
from serving.telemetry.record import RequestRecord
from serving.telemetry.traces import NoTrace
from tests.conftest import OpenSite, settings_of
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
    keyring = assembly.build_keyring(open_site.settings)
    keys = [keyring.mint("ward", f"key {number}")[1].reveal() for number in range(5)]
    client = open_site.client()
    await knock_everywhere(client)
    before = series_in((await client.get("/metrics")).text)

    def name() -> str:
        return "".join(random.choices("abcdefgXYZ019-._%", k=12))

    for _ in range(100):
        method = random.choice([*METHODS, name().replace("%", "")])
        path = random.choice([*PATHS, f"/v1/models/{name()}", f"/{name()}", f"/v1/chat/completions?{name()}={name()}"])
        key = random.choice([f"Bearer {random.choice(keys)}", f"Bearer {name()}", name()])
        body = chat(model=random.choice(["echo", name()])) | random.choice([{}, {name(): 1}, {"stream": True}])
        await client.request(method, path, json=body, headers={"authorization": key, name().replace("%", ""): "x"})
    assert series_in((await client.get("/metrics")).text) == before


async def test_labels_are_routes_deployments_operations_and_outcomes_only(site: OpenSite) -> None:
    client = site().client()
    await knock_everywhere(client)
    text = (await client.get("/metrics")).text
    labels = {name: set(re.findall(rf'[{{,]{name}="([^"]*)"', text)) for name in re.findall(r'[{,]([a-z_]+)="', text)}
    assert labels.keys() == {
        "route", "method", "status", "deployment", "operation", "outcome", "result", "type", "tenant", "stage", "le",
    }  # fmt: skip
    assert labels["route"] == {*PATHS[:3], "/v1/models/{name}", "/livez", "/readyz", "/metrics", "other"}
    assert labels["method"] == {*METHODS, "other"}
    assert (labels["deployment"], labels["operation"]) == ({"echo"}, {"chat"})
    assert labels["outcome"] == {"ok", "invalid_request", "forbidden_field"}
    assert (labels["result"], labels["tenant"]) == ({"ok", "refused"}, {"ward"})
    assert labels["stage"] == {"identify", "read", "reserve", "open", "forward"}


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
    assert {s for s in series_in(metrics.scrape()[0].decode()) if "{" in s and "le=" not in s} == {
        'clinserve_http_requests_total{method="GET",route="other",status="404"}',
        'clinserve_http_requests_created{method="GET",route="other",status="404"}',
    }


def test_metrics_that_are_off_are_an_empty_page() -> None:
    metrics = NoMetrics()
    metrics.entered("echo")
    metrics.finished(a_record())
    metrics.left("echo")
    metrics.lagged(1.0)
    assert metrics.scrape()[0] == b""


def test_tenants_beyond_the_most_share_one_series(tmp_path: Path) -> None:
    telemetry = {"tenants": ["clinic"], "max_tenants": 3}
    metrics = assembly.build_metrics(settings_of(tmp_path, telemetry=telemetry))
    for tenant in ("a", "b", "c", "d", "clinic", "a"):
        metrics.finished(a_record(tenant=tenant))
    text = metrics.scrape()[0].decode()
    assert set(re.findall(r'tenant="([^"]*)"', text)) == {"a", "b", "clinic", "other"}
    assert 'clinserve_tenant_requests_total{deployment="echo",result="ok",tenant="other"} 2.0' in text
    assert 'clinserve_tenant_tokens_total{deployment="echo",tenant="clinic",type="completion"} 4.0' in text


async def test_cost_is_counted_where_there_is_a_price(site: OpenSite) -> None:
    priced = {"name": "echo", "engine": {"kind": "echo"}, "price": {"prompt": 1_000_000, "completion": 500_000}}
    client = site(deployments=[priced]).client()
    await client.post(PATHS[0], json=chat("one two three"))
    assert 'clinserve_cost_total{deployment="echo",tenant="ward"} 4.5' in (await client.get("/metrics")).text


RESULTS = [
    ("ok", 200, "ok"), ("client_left", 499, "left"), ("rate_limit_exceeded", 429, "limited"),
    ("forbidden_field", 400, "refused"), ("engine_unavailable", 503, "failed"), ("engine_failed", 200, "failed"),
]  # fmt: skip


@pytest.mark.parametrize(("outcome", "status", "result"), RESULTS)
def test_a_result_says_who_is_to_blame(outcome: str, status: int, result: str) -> None:
    assert a_record(outcome=outcome, status=status).result == result


async def test_stages_add_up_to_the_request_and_tell_the_gateways_time_from_the_engines(site: OpenSite) -> None:
    open_site = site(echo={"first_token": 0.2, "inter_token": 0.05})
    client = open_site.client()
    await client.post(PATHS[0], json=chat("one two three", stream=True))
    text = (await client.get("/metrics")).text
    seconds = {stage: float(value) for stage, value in re.findall(r'stage_seconds_sum.*stage="(\w+)"} (\S+)', text)}
    assert list(seconds) == ["identify", "read", "reserve", "open", "forward"]
    assert 0.2 <= seconds["open"] < 0.4 and 0.1 <= seconds["forward"] < 0.3
    assert sum(seconds.values()) == pytest.approx(open_site.log()[0]["duration_ms"] / 1000, abs=0.02)


def test_a_spill_stands_for_all_that_the_first_deployment_did() -> None:
    record = a_record()
    for stage in ("identify", "reserve", "open", "spill", "reserve", "open", "forward"):
        record.passed(stage)  # type: ignore[arg-type]
    assert list(record.stages) == ["identify", "spill", "reserve", "open", "forward"]
    assert list(record.stages.values()) == sorted(record.stages.values())


class Sampled(NoTrace):
    trace_id, span_id, sampled = "ab" * 16, "cd" * 8, True


@pytest.mark.parametrize("processes", ["one", "several"])
def test_a_bucket_leads_to_its_last_trace_for_those_who_can_read_it(processes: str, tmp_path: Path) -> None:
    asked = "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"
    code = f"""
from serving.telemetry.metrics import PrometheusMetrics
from tests.telemetry.test_metrics import Sampled, a_record
metrics = PrometheusMetrics()
metrics.finished(a_record(trace=Sampled()))
metrics.finished(a_record(duration=0.05))
print(*[page.decode() for page, _ in (metrics.scrape({asked!r}), metrics.scrape("text/plain"))], sep="END")
"""
    shared = {MULTIPROCESS_DIR: str(tmp_path)} if processes == "several" else {}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | shared, capture_output=True, text=True)
    modern, _, plain = done.stdout.partition("END")
    exemplars = {
        (sample.name, sample.labels["le"]): sample.exemplar
        for family in openmetrics.text_string_to_metric_families(modern)
        for sample in family.samples
        if sample.exemplar
    }
    assert {place: exemplar.labels for place, exemplar in exemplars.items()} == {
        ("gen_ai_server_request_duration_seconds_bucket", "2.56"): {"trace_id": "ab" * 16, "span_id": "cd" * 8},
        ("gen_ai_server_time_to_first_token_seconds_bucket", "0.5"): {"trace_id": "ab" * 16, "span_id": "cd" * 8},
        ("gen_ai_server_time_per_output_token_seconds_bucket", "0.5"): {"trace_id": "ab" * 16, "span_id": "cd" * 8},
    }
    assert "abab" not in plain and "gen_ai_server_request_duration_seconds_bucket" in plain


REPLICA = """
import sys
from prometheus_client import Counter, Gauge
names = ["model_name", "engine"]
Gauge("vllm:num_requests_running", "As vLLM defines it.", names, multiprocess_mode="mostrecent").labels("m", "0").set(4)
Counter("vllm:generation_tokens", "As vLLM defines it.", names).labels("m", "0").inc(10)
print("counted", flush=True)
sys.stdin.read()
"""


def test_each_replica_of_a_deployment_shows_its_own_gauges_until_it_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MULTIPROCESS_DIR, str(tmp_path))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    replicas = [subprocess.Popen([sys.executable, "-c", REPLICA], **pipes) for _ in range(2)]  # type: ignore[call-overload]

    def shown() -> list[str]:
        plain, modern = (
            sorted(line for line in PrometheusMetrics().scrape(accept)[0].decode().splitlines() if "vllm" in line[:4])
            for accept in ("", "application/openmetrics-text; version=1.0.0")
        )
        assert plain == modern
        return plain

    def running(replica: subprocess.Popen[bytes]) -> str:
        return f'vllm:num_requests_running{{engine="0",model_name="m",pid="{replica.pid}"}} 4.0'

    tokens = 'vllm:generation_tokens_total{engine="0",model_name="m"} 20.0'
    try:
        assert [replica.stdout.readline() for replica in replicas] == [b"counted\n"] * 2
        assert shown() == sorted([tokens, *map(running, replicas)])
        replicas[0].kill()
        replicas[0].communicate()
        assert shown() == [tokens, running(replicas[1])]
    finally:
        for replica in replicas:
            replica.kill()
            replica.communicate()


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
