"""What an operator sees of real vLLM under real Ray Serve: one trace, one scrape, dashboards that are not empty."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.openmetrics import parser as openmetrics

from tests.e2e.conformance.site import CHAT, EMBED
from tests.e2e.product import Product
from tests.observability.prometheus import FOLDER, expressions, metrics_in, prometheus
from tests.telemetry.otlp_receiver import Receiver, attributes_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
CANARY = "Zebulon-Quackenbush-19470231"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def ask(product: Product, *, sampled: bool, stream: bool = True, tokens: int = 20) -> httpx.Response:
    messages = [{"role": "user", "content": f"Medications of {CANARY}: lisinopril 10 mg daily. Which?"}]
    headers = {"authorization": f"Bearer {product.key}", "tracestate": f"a={CANARY}", "baggage": f"a={CANARY}"}
    headers |= {"traceparent": f"00-{TRACE}-{PARENT}-01"} if sampled else {}
    body = {"model": CHAT, "messages": messages, "stream": stream, "max_tokens": tokens, "min_tokens": tokens}
    return httpx.post(f"{product.url}/v1/chat/completions", headers=headers, json=body, timeout=120)


def spans_of(receiver: Receiver, name: str, *, since: int = 0) -> list[Span]:
    """Those of our trace, once one is there: other tests' clients send traces of their own."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        found = [span for _, span in receiver.spans[since:] if (span.name, span.trace_id.hex()) == (name, TRACE)]
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"no span {name}")


def test_one_trace_leads_from_the_client_through_the_gateway_into_vllms_own_span(
    product: Product, receiver: Receiver
) -> None:
    answer = ask(product, sampled=True)
    assert answer.text.endswith("data: [DONE]\n\n")
    (engines,) = spans_of(receiver, "llm_request")
    (gateways,) = spans_of(receiver, "POST /v1/chat/completions")
    (asked,) = spans_of(receiver, f"chat {CHAT}")
    assert gateways.parent_span_id.hex() == PARENT
    assert (asked.parent_span_id, engines.parent_span_id) == (gateways.span_id, asked.span_id)
    assert [span.kind for span in (gateways, asked, engines)] == [
        Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER,
    ]  # fmt: skip
    ours, theirs = attributes_of(asked), attributes_of(engines)
    assert ours["gen_ai.usage.output_tokens"] == theirs["gen_ai.usage.completion_tokens"] == 20
    assert ours["gen_ai.usage.input_tokens"] == theirs["gen_ai.usage.prompt_tokens"]
    assert answer.headers["x-request-id"] in theirs["gen_ai.request.id"]
    services = {span.name: service for service, span in receiver.spans}
    assert (services["llm_request"], services[gateways.name]) == ("clinserve-engine", "clinserve-gateway")
    log = product.state_dir / "logs" / "requests.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert (TRACE, gateways.span_id.hex()) in [(line.get("trace_id"), line.get("span_id")) for line in lines]


def test_what_is_not_sampled_is_sent_by_nobody_and_content_by_no_one(product: Product, receiver: Receiver) -> None:
    time.sleep(6)  # vLLM sends every five seconds: what was asked before is in
    before = len(receiver.spans)
    assert ask(product, sampled=False).status_code == 200
    ask(product, sampled=True)
    spans_of(receiver, "llm_request", since=before)
    time.sleep(6)
    told = [span.trace_id.hex() for _, span in receiver.spans[before:] if span.name == "llm_request"]
    assert told == [TRACE]
    secret = product.key.rpartition("_")[2].encode()
    assert [body for body in receiver.bodies if CANARY.encode() in body or secret in body] == []


def test_one_page_has_gateway_and_vllm_and_is_valid_in_the_modern_format_with_a_way_to_the_trace(
    product: Product,
) -> None:
    ask(product, sampled=True)
    answer = httpx.get(product.metrics_url, headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in openmetrics.text_string_to_metric_families(answer.text)}
    assert {"clinserve_stage_seconds", "vllm:kv_cache_usage_perc", "vllm:generation_tokens"} <= families.keys()
    running = [sample.labels for sample in families["vllm:num_requests_running"].samples]
    assert sorted(labels["model_name"] for labels in running) == [CHAT, EMBED]
    assert all(labels.keys() == {"model_name", "engine", "pid"} for labels in running)
    first = families["gen_ai_server_time_to_first_token_seconds"].samples
    assert TRACE in [sample.exemplar.labels["trace_id"] for sample in first if sample.exemplar]


SILENT = {
    "fleet: Changes in an hour, by reason",  # of a fleet of one
    "service: Failures by outcome", "service: Requests that went elsewhere, or had to be made safe",
    "tenants: Requests that were limited (429)", "tenants: Requests that failed or were refused",
}  # fmt: skip


def test_every_panel_shows_something_and_every_metric_of_the_rules_is_there(product: Product, tmp_path: Path) -> None:
    read = {name for _, expr in expressions() for name in metrics_in(expr)}
    for file in (FOLDER / "rules").glob("*.yml"):
        read |= {name for line in file.read_text().splitlines() if ":" in line for name in metrics_in(line)}
    vllms = {name for name in read if name.startswith("vllm:")}
    text = httpx.get(product.metrics_url, timeout=30).text
    assert len(vllms) > 9 and [name for name in vllms if f"\n{name}{{" not in text] == []
    target = product.metrics_url.removeprefix("http://").removesuffix("/metrics")
    with prometheus(target, tmp_path) as asked:
        asked.wait_for('up{job="clinserve"} == 1')
        end = time.monotonic() + 6
        while time.monotonic() < end:
            ask(product, sampled=False)
        cost = {title for title, _ in expressions() if title.startswith("cost")}  # the demo has no prices
        assert {title for title, expr in expressions() if not asked.ask(expr)} <= SILENT | cost
