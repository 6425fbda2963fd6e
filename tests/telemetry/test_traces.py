"""Traces, as a receiver of OTLP gets them: their shape, what is in them, and what never is."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from serving.telemetry.outbox import Outbox
from serving.telemetry.record import RequestRecord
from serving.telemetry.spans import Drawn
from serving.telemetry.traces import NO_TRACE, NoTraces
from tests.conftest import OpenSite
from tests.local import Site, chat, listening
from tests.telemetry.otlp_receiver import Receiver, attributes_of, receiving

PATH = "/v1/chat/completions"
CANARY = "Zebulon-Quackenbush-19470231"
CLIENTS = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


def traced(receiver: Receiver, **traces: Any) -> dict[str, Any]:
    return {"request_log": "file", "traces": {"otlp": receiver.url} | traces}


async def ask(open_site: Site, body: Any, *more: tuple[str, str]) -> httpx.Response:
    """One request of a gateway that listens; it has sent its spans when this returns."""
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            headers = [("authorization", f"Bearer {open_site.key}"), *more]
            return await client.post(PATH, json=body, headers=headers)


async def test_a_request_is_a_server_span_with_the_engines_span_below_in_the_clients_trace(
    site: OpenSite, receiver: Receiver
) -> None:
    open_site = site(echo={"first_token": 0.05}, telemetry=traced(receiver))
    answer = await ask(open_site, chat("one two three", stream=True, temperature=0.5, seed=7), ("traceparent", CLIENTS))
    request, engine = receiver.wait_for(2)
    assert (request.name, request.kind) == (f"POST {PATH}", Span.SPAN_KIND_SERVER)
    assert (engine.name, engine.kind) == ("chat echo", Span.SPAN_KIND_CLIENT)
    assert request.trace_id.hex() == engine.trace_id.hex() == CLIENTS[3:35]
    assert (request.parent_span_id.hex(), engine.parent_span_id) == (CLIENTS[36:52], request.span_id)
    assert request.start_time_unix_nano < engine.start_time_unix_nano
    assert engine.end_time_unix_nano <= request.end_time_unix_nano
    assert engine.end_time_unix_nano - engine.start_time_unix_nano >= 50_000_000
    assert [event.name for event in request.events] == ["identify", "read", "reserve", "open", "forward"]
    assert attributes_of(request) == {
        "http.request.method": "POST", "http.route": PATH, "http.response.status_code": 200,
        "clinserve.request.id": answer.headers["x-request-id"], "clinserve.tenant": "ward",
        "clinserve.deployment": "echo", "clinserve.outcome": "ok",
    }  # fmt: skip
    told = attributes_of(engine)
    assert told.pop("gen_ai.response.time_to_first_chunk") == pytest.approx(0.05, abs=0.05)
    assert told == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "clinserve", "gen_ai.request.model": "echo",
        "gen_ai.request.stream": True, "gen_ai.request.temperature": 0.5, "gen_ai.request.seed": 7,
        "gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 3, "gen_ai.usage.cache_read.input_tokens": 0,
        "clinserve.model.revision": "echo",
    }  # fmt: skip
    (line,) = open_site.log()
    assert (line["trace_id"], line["span_id"]) == (request.trace_id.hex(), request.span_id.hex())


async def test_every_attribute_of_genai_is_one_of_the_conventions(site: OpenSite, receiver: Receiver) -> None:
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

    known = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    await ask(site(telemetry=traced(receiver)), chat(n=1, max_tokens=9, top_p=0.5, frequency_penalty=1))
    _, engine = receiver.wait_for(2)
    ours = {name for name in attributes_of(engine) if name.startswith("gen_ai.")}
    assert len(ours) > 8 and ours - known == {"gen_ai.request.stream"} - known


@pytest.mark.parametrize(
    "sent",
    [
        [], ["nonsense"], [CLIENTS.upper()], [CLIENTS.replace("00-", "ff-", 1)], [CLIENTS + "-more"],
        [CLIENTS, CLIENTS],
        [f"00-{'0' * 32}-00f067aa0ba902b7-01"], [f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01"],
    ],
)  # fmt: skip
async def test_what_is_no_valid_traceparent_begins_a_trace_of_our_own(
    site: OpenSite, receiver: Receiver, sent: list[str]
) -> None:
    await ask(site(telemetry=traced(receiver)), chat(), *[("traceparent", one) for one in sent])
    request, engine = receiver.wait_for(2)
    assert request.parent_span_id == b"" and request.trace_id.hex() != CLIENTS[3:35]
    assert engine.trace_id == request.trace_id


@pytest.mark.parametrize(
    ("traces", "of_all"),
    [
        ({"ratio": 1.0}, ["none", "yes"]),
        ({"ratio": 0.0}, []),
        ({"ratio": 0.0, "trust_clients": True}, ["yes"]),
        ({"ratio": 1.0, "trust_clients": True}, ["none", "yes"]),
    ],
)
async def test_the_ratio_decides_what_is_traced_but_a_client_may_say_no_and_one_that_is_trusted_yes(
    site: OpenSite, receiver: Receiver, traces: dict[str, Any], of_all: list[str]
) -> None:
    asked = {"none": {}, "no": {"traceparent": CLIENTS[:-1] + "0"}, "yes": {"traceparent": CLIENTS}}
    open_site = site(telemetry=traced(receiver, **traces))
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            ids = {name: (await client.post(PATH, json=chat(), headers=sent)).headers["x-request-id"]
                   for name, sent in asked.items()}  # fmt: skip
    told = [attributes_of(span).get("clinserve.request.id") for _, span in receiver.spans]
    assert [name for name, request_id in ids.items() if request_id in told] == of_all
    ours, *clients = [line["trace_id"] for line in open_site.log()]
    assert re.fullmatch("[0-9a-f]{32}", ours), "a log line can be joined with the client's own, traced or not"
    assert clients == [CLIENTS[3:35]] * 2


def test_a_client_that_chooses_its_ids_cannot_choose_those_that_are_traced() -> None:
    draws = iter([0.2, 0.05, 0.1])
    lots = Drawn(0.1, lambda: next(draws))
    taken = [lots.should_sample(None, 1, "request").decision.is_sampled() for _ in range(3)]
    assert taken == [False, True, False]


async def test_a_failure_is_an_error_by_its_code_and_a_refusal_is_not_our_error(
    site: OpenSite, receiver: Receiver
) -> None:
    failures = [{"when": "BREAK", "action": "die", "after": 2}]
    open_site = site(echo={"failures": failures}, telemetry=traced(receiver))
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            await client.post(PATH, json=chat("a BREAK c d", stream=True))
            await client.post(PATH, json=chat(n=1000))
    request, engine, refused = receiver.wait_for(3)
    assert request.status.code == engine.status.code == Status.STATUS_CODE_ERROR
    assert attributes_of(request)["error.type"] == attributes_of(engine)["error.type"] == "engine_failed"
    assert attributes_of(engine)["gen_ai.usage.output_tokens"] == 2
    assert attributes_of(refused)["error.type"] == "invalid_request"
    assert refused.status.code == Status.STATUS_CODE_UNSET


async def test_a_spill_has_a_span_for_each_deployment_that_was_asked(site: OpenSite, receiver: Receiver) -> None:
    broken = {"kind": "echo", "failures": [{"action": "refuse"}]}
    deployments = [
        {"name": "first", "engine": broken, "spill_to": "second"},
        {"name": "second", "engine": {"kind": "echo"}},
    ]
    await ask(site(telemetry=traced(receiver), deployments=deployments), chat(model="first"))
    request, first, second = receiver.wait_for(3)
    assert [span.name for span in (first, second)] == ["chat first", "chat second"]
    assert first.parent_span_id == second.parent_span_id == request.span_id
    assert [attributes_of(span).get("error.type") for span in (first, second)] == ["engine_unavailable", None]
    assert first.end_time_unix_nano <= second.start_time_unix_nano
    assert attributes_of(request)["clinserve.deployment"] == "second"


async def test_nothing_that_a_client_sends_or_gets_is_in_a_span(site: OpenSite, receiver: Receiver) -> None:
    failures = [{"when": "BREAK", "action": "die", "after": 2}]
    open_site = site(echo={"failures": failures, "max_model_len": 20}, telemetry=traced(receiver))
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            client.headers.update({
                "tracestate": f"a={CANARY}", "baggage": f"a={CANARY}", "x-request-id": CANARY, "user-agent": CANARY,
            })  # fmt: skip
            bodies: list[Any] = [
                chat(CANARY), chat(CANARY, stream=True), chat(f"{CANARY} BREAK", stream=True), chat(f"{CANARY} " * 30),
                chat(model=CANARY), chat(**{CANARY: 1}), chat(user=CANARY), chat(seed=CANARY), [CANARY], CANARY,
                chat(stop=[CANARY]), chat(tools=[{"type": "function", "function": {"name": CANARY}}]),
            ]  # fmt: skip
            for body in bodies:
                await client.post(PATH, json=body)
            for path in (f"/{CANARY}", f"/v1/models/{CANARY}", f"{PATH}?{CANARY}={CANARY}"):
                await client.get(path)
            await client.request(CANARY, PATH)
    assert len(receiver.spans) > 16
    assert [body for body in receiver.bodies if CANARY.encode() in body or open_site.key[13:].encode() in body] == []


async def test_probes_are_not_traced(site: OpenSite, receiver: Receiver) -> None:
    open_site = site(telemetry=traced(receiver))
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            for path in ("/livez", "/readyz", "/metrics", "/v1/models"):
                await client.get(path)
    assert [span.name for _, span in receiver.spans] == ["GET /v1/models"]


async def test_a_receiver_that_is_away_costs_spans_and_nothing_else(site: OpenSite, receiver: Receiver) -> None:
    receiver.status = 400
    open_site = site(telemetry=traced(receiver))
    with listening(open_site.app) as url:
        async with open_site.client(url) as client:
            assert (await client.post(PATH, json=chat())).status_code == 200
            counted = 'clinserve_spans_total{result="failed"} 2.0'
            for _ in range(100):
                if counted in (text := (await client.get("/metrics")).text):
                    break
                threading.Event().wait(0.05)
            assert counted in text


class Held(SpanExporter):
    """An exporter that does not come back until it may."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.sent: list[ReadableSpan] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.may.wait(5)
        self.sent += spans
        return SpanExportResult.SUCCESS


def test_more_spans_than_may_wait_are_dropped_and_counted_and_what_waits_is_sent_at_the_end() -> None:
    told: list[tuple[str, int]] = []
    exporter = Held()
    outbox = Outbox(exporter, size=5, on_spans=lambda result, count: told.append((result, count)), every=60)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(outbox)
    for number in range(8):
        provider.get_tracer("tests").start_span(str(number)).end()
    assert told == [("dropped", 1)] * 3
    exporter.may.set()
    provider.shutdown()
    assert [span.name for span in exporter.sent] == ["0", "1", "2", "3", "4"] and told[3:] == [("exported", 5)]


def test_an_exporter_that_breaks_does_not_end_the_next_batch_and_is_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[tuple[str, int]] = []

    class Broken(Held):
        def export(self, spans: Any) -> SpanExportResult:
            if not told:
                raise RuntimeError(CANARY)
            return super().export(spans)

    exporter = Broken()
    exporter.may.set()
    outbox = Outbox(exporter, size=5, on_spans=lambda result, count: told.append((result, count)), every=0.001)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(outbox)
    for _ in range(2):
        before = len(told)
        provider.get_tracer("tests").start_span("one").end()
        while len(told) == before:
            threading.Event().wait(0.001)
    provider.shutdown()
    assert told == [("failed", 1), ("exported", 1)]
    said = [record.getMessage() for record in caplog.records]
    assert said == ["traces: spans do not arrive at their receiver", "traces: spans arrive again"]


def test_traces_that_are_off_have_no_ids() -> None:
    trace = NoTraces().begin([CLIENTS])
    assert trace is NO_TRACE and trace.ask(RequestRecord(request_id="req_1", method="GET")) == ""
    assert (trace.trace_id, trace.span_id, trace.sampled) == ("", "", False)
