"""The overhead bench's client against a stub that streams known events, and whose processes are whose."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from loadtests.overhead import client, processes, servers
from loadtests.overhead.answer import Answer
from loadtests.overhead.client import GAP_UNIT_S, Plan
from loadtests.overhead.echo import Engine, Frames

Write = Callable[[asyncio.StreamWriter], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
DONE = b"data: [DONE]\n\n"
END = b"0\r\n\r\n"


def content(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() + b"\n\n"


def usage(tokens: int) -> bytes:
    return b"data: " + json.dumps({"choices": [], "usage": {"completion_tokens": tokens}}).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def whole(*events: bytes) -> bytes:
    return HEAD + b"".join(map(chunk, events)) + END


@contextlib.asynccontextmanager
async def stub(*scripts: Write) -> AsyncIterator[tuple[Plan, list[bytes]]]:
    """Serve one script per request, the last one again and again; yield a plan for it and the requests it saw."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                seen.append(head + await reader.readexactly(length))
                await scripts[min(len(seen), len(scripts)) - 1](writer)
                await writer.drain()
                if writer.is_closing():
                    return
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield Plan("127.0.0.1", port, model="m", streams=1, requests=1, tokens=4, timeout_s=5), seen


def at_once(data: bytes) -> Write:
    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return write


def paced(*steps: bytes | float) -> Write:
    async def write(writer: asyncio.StreamWriter) -> None:
        for step in steps:
            if isinstance(step, bytes):
                writer.write(step)
            else:
                await writer.drain()
                await asyncio.sleep(step)

    return write


WHOLE = whole(ROLE, content("a"), content("b"), content("c d"), usage(4), DONE)


# the client


async def test_the_first_token_is_the_first_content_and_the_end_is_done() -> None:
    script = paced(
        HEAD + chunk(ROLE), 0.05, chunk(content("a")), 0.06, chunk(content("b") + usage(4)), 0.04, chunk(DONE), 0.1, END
    )
    async with stub(script) as (plan, _):
        (timing,) = (await client.run(plan)).timings
    assert timing.ttft == pytest.approx(0.05, abs=0.03)
    assert timing.e2e == pytest.approx(0.15, abs=0.04), "the wait for the last chunk, after [DONE], does not count"
    assert timing.tpot == pytest.approx((timing.e2e - timing.ttft) / 3)


async def test_tokens_are_the_servers_count_and_not_the_number_of_frames() -> None:
    async with stub(at_once(whole(ROLE, content("four tokens in one"), usage(4), DONE))) as (plan, _):
        (timing,) = (await client.run(plan)).timings
    assert (timing.tokens, timing.frames) == (4, 3)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
def test_the_cuts_between_reads_do_not_matter(size: int) -> None:
    answer = Answer()
    for at in range(0, len(WHOLE), size):
        answer.feed(WHOLE[at : at + size], now=float(at + size))  # the clock counts bytes
    timing = answer.timing(sent=0.0, tokens=4)
    first_content_ends = WHOLE.index(content("a")) + len(content("a")) - 1  # its line, without the empty one after it
    assert answer.complete
    assert (timing.tokens, timing.frames) == (4, 5)
    assert first_content_ends <= timing.ttft < first_content_ends + size
    assert timing.ttft <= timing.e2e < len(WHOLE) - len(b"\r\n" + END) + size


def test_the_cuts_between_chunks_do_not_matter() -> None:
    events = ROLE + content("a") + content("b") + usage(4) + DONE
    for size in (1, 5, 33):
        answer = Answer()
        answer.feed(whole(*(events[at : at + size] for at in range(0, len(events), size))), now=1.0)
        assert answer.timing(sent=0.0, tokens=4).frames == 4


def test_bodies_with_a_length_or_until_the_end_of_the_connection_are_read_too() -> None:
    body = ROLE + content("a") + usage(4) + DONE
    with_length, until_closed = Answer(), Answer()
    with_length.feed(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body, now=1.0)
    until_closed.feed(b"HTTP/1.1 200 OK\r\n\r\n" + body, now=1.0)
    assert with_length.complete
    assert not until_closed.complete
    until_closed.closed()
    assert with_length.timing(0.0, 4) == until_closed.timing(0.0, 4)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (whole(ROLE, content("a"), usage(4)), r"without \[DONE\]"),
        (whole(ROLE, content("a"), DONE), "without usage"),
        (whole(ROLE, usage(4), DONE), "without content"),
        (whole(ROLE, content("a"), usage(3), DONE), "3 tokens instead of 4"),
        (b"HTTP/1.1 429 Too Many\r\nContent-Length: 9\r\n\r\nslow down", "HTTP 429: slow down"),
        (b"HTTP/1.1 429 Too Many\r\nContent-Length: 0\r\n\r\n", "HTTP 429"),
        (HEAD + chunk(ROLE) + b"no size\r\n", "cannot read the answer"),
    ],
)
async def test_anything_but_the_whole_answer_is_a_failure_and_the_next_request_goes_on(
    answer: bytes, reason: str
) -> None:
    async with stub(at_once(answer), at_once(WHOLE)) as (plan, _):
        result = await client.run(replace(plan, requests=2))
    assert result.failed == 1
    assert len(result.timings) == 1
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(result.reasons[0])


async def test_a_connection_that_breaks_in_the_middle_is_a_failure() -> None:
    async def break_off(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + chunk(ROLE) + chunk(content("a")))
        writer.close()

    async with stub(break_off, at_once(WHOLE)) as (plan, _):
        result = await client.run(replace(plan, requests=2))
    assert (result.failed, len(result.timings)) == (1, 1)
    assert "closed in the middle" in result.reasons[0]


async def test_an_answer_that_never_ends_is_a_failure() -> None:
    async with stub(paced(HEAD + chunk(ROLE), 1.0)) as (plan, _):
        result = await client.run(replace(plan, timeout_s=0.1))
    assert result.reasons == ["no whole answer in 0.1 s"]


async def test_each_stream_sends_its_requests_one_after_the_other_and_no_prompt_twice() -> None:
    async with stub(at_once(WHOLE)) as (plan, seen):
        result = await client.run(replace(plan, streams=3, requests=4, key="secret"))
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in seen]
    heads = {body["messages"][0]["content"][:22] for body in bodies}
    assert (len(result.timings), result.failed, len(seen), len(heads)) == (12, 0, 12, 12)
    assert all(b"Authorization: Bearer secret\r\n" in request for request in seen)
    assert bodies[0] | {"messages": []} == {
        "model": "m",
        "messages": [],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "max_tokens": 4,
        "min_tokens": 4,
        "ignore_eos": True,
        "skip_special_tokens": False,
    }


def test_the_nonce_changes_the_head_of_a_prompt_and_nothing_else() -> None:
    one, two = client.prompt("seed", "1", 7), client.prompt("seed", "2", 7)
    assert one == client.prompt("seed", "1", 7)
    assert one[:22] != two[:22]
    assert one[22:] == two[22:]
    assert client.prompt("seed", "1", 8)[22:] != one[22:]


async def test_the_client_process_waits_for_the_word_and_writes_its_result() -> None:
    async with stub(at_once(WHOLE)) as (plan, seen):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "loadtests.overhead.client"),
            cwd=servers.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(vars(plan)).encode() + b"\n")
        assert await asyncio.wait_for(process.stdout.readline(), 20) == b"ready\n"
        assert seen == []
        output, _ = await asyncio.wait_for(process.communicate(b"go\n"), 20)
    result = client.decode_result(output.decode())
    assert [timing.tokens for timing in result.timings] == [4]
    assert result.gaps == {0: 3}


def test_tokens_that_come_together_are_nothing_apart_and_what_follows_the_last_does_not_count() -> None:
    answer = Answer()
    answer.feed(HEAD + chunk(ROLE), now=0.5)
    answer.feed(chunk(content("a") + content("b")), now=1.0)
    answer.feed(chunk(content("c")), now=1.25)
    answer.feed(chunk(content("d") + usage(4) + DONE) + END, now=2.0)
    assert list(answer.gaps(tokens=4)) == [0.0, 0.25, 0.75]


async def test_the_time_between_tokens_is_counted_over_all_answers() -> None:
    script = paced(HEAD + chunk(ROLE + content("a")), 0.05, chunk(content("b")), chunk(content("c d") + usage(4)))
    async with stub(paced_then_end(script)) as (plan, _):
        result = await client.run(replace(plan, streams=2))
    waits = [units * GAP_UNIT_S for units, count in result.gaps.items() for _ in range(count)]
    assert len(waits) == 2 * 3
    assert sum(wait > 0.04 for wait in waits) == 2


def paced_then_end(script: Write) -> Write:
    async def write(writer: asyncio.StreamWriter) -> None:
        await script(writer)
        writer.write(chunk(DONE) + END)

    return write


async def test_an_answer_that_is_not_streamed_is_timed_to_its_end() -> None:
    body = json.dumps(Frames("m").whole(4)).encode()
    script = paced(0.05, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    async with stub(script) as (plan, seen):
        result = await client.run(replace(plan, stream=False))
    assert b'"stream"' not in seen[0]
    assert result.timings[0].ttft == result.timings[0].e2e >= 0.05


@pytest.mark.parametrize("body", [b"{}", b"[]", b"no JSON", json.dumps(Frames("m").whole(3)).encode()])
async def test_a_whole_answer_that_is_not_what_was_asked_for_is_a_failure(body: bytes) -> None:
    async with stub(at_once(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)) as (plan, _):
        assert (await client.run(replace(plan, stream=False))).failed == 1


class Pipe(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data


@pytest.mark.parametrize("tokens", [1, 2, 5])
def test_the_echo_engine_gives_a_token_at_once_and_one_a_step(tokens: int) -> None:
    engine, pipe, answer = Engine("m", step_s=0.01), Pipe(), Answer()
    engine.start(pipe, tokens)
    for step in range(tokens):
        answer.feed(pipe.written, now=float(step))
        pipe.written = b""
        engine.step()
    timing = answer.timing(sent=-1.0, tokens=tokens)
    assert (timing.ttft, timing.e2e) == (1.0, float(tokens))
    assert list(answer.gaps(tokens)) == [1.0] * (tokens - 1)
    assert not engine.running


# the processes


@pytest.mark.parametrize(
    ("title", "role"),
    [
        ("VLLM::EngineCore", "engine"),
        ("VLLM::Worker_TP0", "engine"),
        ("ray::ServeReplica:gateway:Gateway.handle_request", "gateway"),
        ("ray::ServeReplica:llm:OpenAiIngress.handle_request", "ingress"),
        ("ray::ServeReplica:llm:LLMRouter", "ingress"),
        ("ray::ServeReplica:clinical-demo:LLMServer", "engine replica"),
        ("ray::ServeController.listen_for_change", "serve control"),
        ("ray::IDLE", "ray"),
        ("/env/lib/python3/site-packages/ray/core/src/ray/raylet/raylet --raylet_socket_name=x", "ray"),
        ("/env/bin/haproxy -f /tmp/ray/haproxy.cfg", "haproxy"),
        ("python -m vllm.entrypoints.openai.api_server --model m", "api server"),
        ("python -m serving.cli serve", "command"),
        ("python -c from multiprocessing.resource_tracker import main", "other"),
    ],
)
def test_the_role_of_a_process_is_in_its_title(title: str, role: str) -> None:
    assert processes.role(title) == role


def test_a_process_that_left_the_tree_and_the_session_is_found_by_its_mark_and_ended() -> None:
    orphan = "[sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True"
    script = f"import subprocess, sys, time; subprocess.Popen({orphan}); time.sleep(0.3)"
    root = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, processes.MARK: "test-mark"})
    family = processes.Processes(root.pid, "test-mark")
    root.wait()
    left = family.find()
    assert len(left) == 1
    assert set(family.cpu()) == {"other"}
    processes.end(left)
    assert family.find() == set()
