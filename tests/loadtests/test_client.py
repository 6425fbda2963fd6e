"""One request against a server of a few lines: what each way to answer is called, and what the client does then."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from loadtests.client import Caller, clock
from loadtests.metrics import Kind
from loadtests.plan import Server
from loadtests.scenario import Client, Flow, parse
from loadtests.workloads import Ask
from tests.loadtests.test_sse import END, ROLE, USAGE, text

ASK = Ask([{"role": "user", "content": "x"}], 3)
Answer = Callable[[BaseHTTPRequestHandler], None]


def stream(*events: Any, done: bool = True, length: bool = False) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        body = b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
        body += b"data: [DONE]\n\n" if done else b""
        handler.send_response(200)
        handler.send_header("content-length", str(len(body) + (100 if length else 0)))
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = length

    return answer


def status(code: int, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {"content-length": "2", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(b"{}")

    return answer


def silent(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(1.5)


WHOLE = stream(ROLE, text("a"), text("b"), text("c"), END, USAGE)


@contextmanager
def serving(*answers: Answer) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server that gives these answers in turn, the last one for ever; its URL, and the requests it got."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.append({"body": body, "key": self.headers["authorization"]})
            answers[min(len(seen), len(answers)) - 1](self)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", seen
    finally:
        server.shutdown()
        server.server_close()


def flow(key: str = "default", **client: Any) -> Flow:
    tree = {"name": "f", "key": key, "arrivals": {"kind": "once"}, "client": client}
    return parse({"name": "x", "question": "?", "flows": [tree]}).flows[0]


def ask(url: str, wanted: Flow, *, forced: bool = True) -> Any:
    caller = Caller(Server(url, "m", 100, 1.0, forced), {"default": "sk-test"}, 5, clock(time.perf_counter()))
    try:
        return caller.ask(wanted, ASK, caller.body(wanted, ASK))
    finally:
        caller.close()


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (WHOLE, "ok"),
        (stream(text("a"), END, USAGE, done=False), "broken"),
        (stream(text("a"), done=False, length=True), "broken"),
        (stream(text("a"), {"error": {"message": "no"}}, done=False), "error_event"),
        (stream(text("a"), END), "malformed"),
        (status(429, retry_after="3"), "limited"),
        (status(429), "limited_bare"),
        (status(401), "unauthorized"),
        (status(403), "unauthorized"),
        (status(400), "refused"),
        (status(503, retry_after="1"), "unavailable"),
        (status(500), "failed"),
    ],
)
def test_every_way_to_answer_has_its_own_name(answer: Answer, kind: Kind) -> None:
    with serving(answer) as (url, _):
        assert ask(url, flow()).kind == kind


def test_a_server_that_says_nothing_is_given_up() -> None:
    with serving(silent) as (url, _):
        assert ask(url, flow(timeout="200ms")).kind == "timeout"


def test_a_server_that_is_not_there_is_unreachable() -> None:
    assert ask("http://127.0.0.1:9", flow()).kind == "unreachable"


def test_a_whole_answer_brings_its_tokens_and_times() -> None:
    with serving(WHOLE) as (url, seen):
        exchange = ask(url, flow())
    assert (exchange.reading.answer_tokens, exchange.reading.frames, exchange.attempts) == (3, 3, 1)
    assert exchange.sent <= exchange.reading.first <= exchange.end
    assert seen[0]["key"] == "Bearer sk-test" and seen[0]["body"]["min_tokens"] == seen[0]["body"]["max_tokens"] == 3


def test_a_server_that_does_not_know_vllms_fields_is_not_sent_them() -> None:
    with serving(WHOLE) as (url, seen):
        ask(url, flow(), forced=False)
    assert seen[0]["body"].keys() <= {"model", "messages", "stream", "stream_options", "max_tokens", "temperature"}


def test_a_leaving_client_leaves_after_so_many_events() -> None:
    with serving(WHOLE) as (url, _):
        exchange = ask(url, flow(leave_after=2))
    assert (exchange.kind, exchange.reading.frames) == ("left", 2)


def test_a_wrong_key_is_another_one_each_time() -> None:
    with serving(status(401)) as (url, seen):
        for _ in range(3):
            ask(url, flow("invalid"))
    assert len({one["key"] for one in seen}) == 3


def test_honouring_retry_after_waits_that_long_and_ignoring_it_does_not() -> None:
    limited = status(429, retry_after_ms="300", retry_after="1")
    with serving(limited, WHOLE) as (url, _):
        polite = ask(url, flow(retry="honour"))
    with serving(limited, limited, limited, WHOLE) as (url, _):
        rude = ask(url, flow(retry="ignore"))
    assert (polite.kind, polite.attempts) == ("ok", 2) and polite.reading.first - polite.sent >= 0.3
    assert (rude.kind, rude.attempts) == ("ok", 4)


def test_patience_ends() -> None:
    with serving(status(429, retry_after="60")) as (url, seen):
        assert ask(url, flow(retry="honour", patience="1s")).kind == "limited"
    assert len(seen) == 1


def test_a_flow_without_retries_asks_once() -> None:
    with serving(status(503), WHOLE) as (url, seen):
        assert ask(url, flow()).kind == "unavailable"
    assert len(seen) == 1 and Client().retry == "never"
