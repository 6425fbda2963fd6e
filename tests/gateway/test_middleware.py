"""What surrounds every request: its id, its limit, its record, and its end when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.gateway.books import Books
from serving.gateway.dialects import OpenAI
from serving.gateway.dialects.dialect import Spoken
from serving.gateway.middleware import BodyLimit, Recorded, RequestId, UntilClientLeaves
from serving.telemetry.metrics import NoMetrics
from serving.telemetry.record import RequestRecord
from serving.telemetry.traces import NoTraces
from serving.tenants.audit_log import NoAudit
from serving.tenants.ledger import NoLedger
from tests.conftest import OpenSite
from tests.local import RecordingEngine, chat, error_of

CHAT = "/v1/chat/completions"
NO_BOOKS = Books(NoLedger(), NoAudit(), prices={})


async def test_every_response_has_one_request_id_and_never_the_clients_own(site: OpenSite) -> None:
    open_site = site(RecordingEngine((), RuntimeError()), server={"max_body": 1000})
    signed_in, stranger = open_site.client(), open_site.client(authorization="")
    own = {"x-request-id": "CANARY", "X-Request-ID": "CANARY"}
    responses = [
        await signed_in.get("/v1/models", headers=own),
        await stranger.get("/v1/models", headers=own),
        await signed_in.get("/v1/nothing", headers=own),
        await signed_in.get(CHAT, headers=own),
        await signed_in.post(CHAT, content=b"x" * 1001, headers=own),
        await signed_in.post(CHAT, json=chat(), headers=own),
        await stranger.get("/livez", headers=own),
    ]
    assert [response.status_code for response in responses] == [200, 401, 404, 405, 413, 500, 200]
    ids = [response.headers.get_list("x-request-id") for response in responses]
    assert all(len(values) == 1 and values[0].startswith("req_") for values in ids)
    assert len({values[0] for values in ids}) == len(responses)
    assert [line["request_id"] for line in open_site.log() if line["event"] == "request"] == [i[0] for i in ids[:-1]]


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_carries_our_id_inside_and_outside(site: OpenSite, stream: bool) -> None:
    response = await site().client().post(CHAT, json=chat(stream=stream), headers={"x-request-id": "CANARY"})
    assert f'"chatcmpl-{response.headers["x-request-id"]}"' in response.text
    assert "CANARY" not in response.text


async def test_a_body_above_the_limit_is_refused_by_its_length_before_it_is_read(site: OpenSite) -> None:
    async def never() -> Message:
        raise AssertionError("read")

    sent = await call(with_record(BodyLimit(refuse_to_run, limit=10)), never, headers=[(b"content-length", b"11")])
    assert sent[0]["status"] == 413


async def test_five_megabytes_are_too_large_with_and_without_a_content_length(site: OpenSite) -> None:
    engine = RecordingEngine()
    open_site = site(engine)
    body = b'{"model":"' + b"x" * (5 * 2**20) + b'"}'

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 2**16):
            yield body[start : start + 2**16]

    for content in (body, pieces()):
        response = await open_site.client().post(CHAT, content=content)
        assert "4194304 bytes" in error_of(response, 413, "request_too_large")["message"]
    assert {line["outcome"] for line in open_site.log()} == {"request_too_large"} and not engine.asked


async def test_a_body_of_just_the_limit_passes(site: OpenSite) -> None:
    body = b'{"model":"echo","messages":[{"role":"user","content":"a"}]}'
    client = site(server={"max_body": len(body)}).client()
    assert (await client.post(CHAT, content=body)).status_code == 200
    assert (await client.post(CHAT, content=body + b" ")).status_code == 413


async def test_the_application_sees_our_id_and_an_engine_the_gateways() -> None:
    """Ray Serve logs the id that it sees; an engine gets the gateway's."""

    async def tell(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], "seen": scope["headers"]})

    given = [(b"x-request-id", b"CANARY"), (b"x-request-id", b"CANARY")]
    app = RequestId(tell, kept_under="/_engine/")
    (sent,) = await call(app, headers=[*given], path="/v1")
    assert sent["seen"] == sent["headers"] and b"CANARY" not in dict(sent["seen"]).values()
    (sent,) = await call(app, headers=[*given], path="/_engine/a/v1")
    assert b"CANARY" not in dict(sent["seen"]).values()
    ours = (b"x-request-id", b"req_" + b"0a" * 12)
    (sent,) = await call(app, headers=[ours], path="/_engine/a/v1")
    assert (sent["seen"], sent["headers"]) == ([ours], [ours])


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_what_is_no_request_passes_untouched(kind: str) -> None:
    seen = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    scope: Scope = {"type": kind}
    app = recorded(BodyLimit(inner, limit=1), metrics=NoMetrics(), log=KeptLog(), books=NO_BOOKS)
    await UntilClientLeaves(RequestId(app))(scope, nothing, ignore)
    assert seen == [(scope, nothing, ignore)] and scope == {"type": kind}


async def test_an_exception_after_the_response_has_begun_is_recorded_and_adds_nothing_to_it() -> None:
    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    log = KeptLog()
    sent = await call(RequestId(recorded(breaks, metrics=NoMetrics(), log=log, books=NO_BOOKS)))
    assert [message["type"] for message in sent] == ["http.response.start"]
    assert [(r.outcome, r.status) for r in log.records] == [("internal_error", 200)]
    assert [type(error) for error in log.errors] == [RuntimeError]


async def test_a_client_that_leaves_while_sending_its_body_has_left_and_nothing_broke() -> None:
    """On Ray Serve, UntilClientLeaves is not there."""

    async def reads(scope: Scope, receive: Receive, send: Send) -> None:
        await Request(scope, receive).body()

    async def leave() -> Message:
        return {"type": "http.disconnect"}

    log = KeptLog()
    await call(RequestId(recorded(reads, metrics=NoMetrics(), log=log, books=NO_BOOKS)), leave)
    assert [(r.outcome, r.status) for r in log.records] == [("client_left", 499)] and not log.errors


async def test_a_client_that_leaves_cancels_its_request() -> None:
    log, gone = KeptLog(), asyncio.Event()

    async def leave() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        gone.set()
        await asyncio.Event().wait()

    async with asyncio.timeout(1):
        await call(UntilClientLeaves(RequestId(recorded(waits, metrics=NoMetrics(), log=log, books=NO_BOOKS))), leave)
    assert [(r.outcome, r.status) for r in log.records] == [("client_left", 499)]


async def test_a_body_in_many_pieces_arrives_whole_behind_the_watch_for_a_leaving_client() -> None:
    pieces = iter(range(100))

    async def receive() -> Message:
        number = next(pieces, None)
        if number is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b"x", "more_body": number != 99}

    async def counts(scope: Scope, receive: Receive, send: Send) -> None:
        body = await Request(scope, receive).body()
        await send({"type": "http.response.start", "status": len(body), "headers": []})

    assert (await call(UntilClientLeaves(counts), receive))[0]["status"] == 100


async def test_an_exception_comes_out_of_the_watch_for_a_leaving_client() -> None:
    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("of the app")

    with pytest.raises(RuntimeError, match="of the app"):
        await call(UntilClientLeaves(breaks))


@dataclass
class KeptLog:
    """A RequestLog in memory."""

    records: list[RequestRecord] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def finished(self, record: RequestRecord) -> None:
        self.records.append(record)

    def broke(self, record: RequestRecord, error: BaseException) -> None:
        self.errors.append(error)


async def nothing() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def ignore(message: Message) -> None: ...


async def refuse_to_run(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("called")


def with_record(app: ASGIApp) -> ASGIApp:
    return RequestId(recorded(app, metrics=NoMetrics(), log=KeptLog(), books=NO_BOOKS))


async def call(
    app: ASGIApp, receive: Receive = nothing, *, headers: list[tuple[bytes, bytes]] | None = None, path: str = "/"
) -> list[Message]:
    """What the application sends for a POST."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": path, "headers": headers or []}, receive, send)
    return sent


def recorded(app: ASGIApp, **parts: Any) -> ASGIApp:
    return Spoken(Recorded(app, traces=NoTraces(), **parts), dialects=(OpenAI(),))
