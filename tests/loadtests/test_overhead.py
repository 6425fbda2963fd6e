"""The overhead bench without a server: flags, the client against a stub that streams known events, the arithmetic."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.overhead import client, processes, report, servers
from loadtests.overhead.__main__ import arguments
from loadtests.overhead.client import Answer, Plan, Result, Timing
from loadtests.overhead.rounds import LOADED, SINGLE, TTFT, Load, Phase, Round

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


# the servers


def test_engine_arguments_become_command_line_flags() -> None:
    assert servers.flags(
        {
            "max_model_len": 2048,
            "enforce_eager": True,
            "enable_prefix_caching": False,
            "gpu_memory_utilization": 0.4,
            "speculative_config": {"method": "ngram", "num_speculative_tokens": 3},
            "cudagraph_capture_sizes": [1, 2, 4],
            "quantization": None,
        }
    ) == [
        *("--max-model-len", "2048"),
        "--enforce-eager",
        "--no-enable-prefix-caching",
        *("--gpu-memory-utilization", "0.4"),
        *("--speculative-config", '{"method": "ngram", "num_speculative_tokens": 3}'),
        *("--cudagraph-capture-sizes", "1", "2", "4"),
    ]


CONFIG = """
deployments:
  - name: demo
    model: {source: org/model}
    engine: {kind: vllm, args: {max_model_len: 64}, env: {OMP_NUM_THREADS: 1}}
"""


def test_bare_vllm_gets_the_engine_of_the_first_deployment(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text(CONFIG)
    engine = servers.read_engine(tmp_path / "demo.yaml")
    assert engine.environment == {"OMP_NUM_THREADS": "1"}
    command = servers.bare_command(engine, 8711)
    assert command[:5] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", "org/model"]
    assert {"--served-model-name", "demo", "--port", "8711", "--max-model-len", "64"} <= set(command)


@pytest.mark.parametrize(
    "text", ["", "deployments: []", "deployments: [{name: a}]", "a: [", CONFIG.replace("vllm", "echo")]
)
def test_a_configuration_without_vllm_is_one_clear_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "demo.yaml").write_text(text)
    with pytest.raises(servers.BenchError, match=r"demo\.yaml"):
        servers.read_engine(tmp_path / "demo.yaml")


def test_a_taken_port_and_a_missing_model_are_clear_errors() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(servers.BenchError, match="in use"):
            servers.check_port(taken.getsockname()[1])
    with pytest.raises(servers.BenchError, match=r"no model in ../nothing"):
        servers.check_model(servers.Engine("demo", "../nothing", {}, {}))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8000", ("127.0.0.1", 8000, "/v1/chat/completions", False)),
        ("https://example.org/base/v1/", ("example.org", 443, "/base/v1/chat/completions", True)),
    ],
)
def test_a_server_is_named_by_its_base_url(url: str, expected: tuple[str, int, str, bool]) -> None:
    address = servers.Target(url, "m", "", None).address
    assert (address["host"], address["port"], address["path"], address["tls"]) == expected


@pytest.mark.parametrize(
    ("title", "role"),
    [
        ("VLLM::EngineCore", "engine"),
        ("VLLM::Worker_TP0", "engine"),
        ("ray::ServeReplica:gateway:Gateway.handle_request", "gateway"),
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


# the arithmetic


def a_round(side: servers.Side, number: int, tokens_per_s: float, ttft: float, outside: float) -> Round:
    timing = Timing(ttft=ttft, e2e=1.0, tpot=0.002, tokens=100, frames=100)
    result = Result(wall_s=100 / tokens_per_s, client_cpu_s=0.0, timings=[timing])
    cpu = {"engine": 5.0, "api server": outside * 75e-6, "ray": outside * 25e-6}
    phase = Phase(result, cpu, foreign_cpu_s=0.0)
    return Round(side, number, {TTFT: phase, SINGLE: phase, LOADED: phase})


ROUNDS = [
    a_round("bare", 1, 1000, 0.010, 100),
    a_round("product", 1, 800, 0.015, 200),
    a_round("bare", 2, 2000, 0.020, 120),
    a_round("product", 2, 1800, 0.028, 260),
]


def test_sides_are_compared_within_their_round() -> None:
    rows = report.summarise(ROUNDS, streams=64)
    against = {name: row.against.values for name, row in rows.items() if row.against}
    assert against["throughput_loaded"] == pytest.approx([0.8, 0.9])
    assert against["ttft_p50_single"] == pytest.approx([5.0, 8.0])
    assert against["cpu_outside_engine"] == pytest.approx([100, 140])
    assert rows["throughput_loaded"].json()["ratio"] == {"median": 0.85, "min": 0.8, "max": 0.9, "rounds": [0.8, 0.9]}
    assert rows["throughput_loaded"].bare == report.Spread([1000, 2000])


def test_cpu_per_token_leaves_the_engine_out_and_is_split_by_role() -> None:
    assert report.cpu_split(ROUNDS)["product"] == pytest.approx({"api server": 172.5, "ray": 57.5})


def test_one_side_alone_and_processes_out_of_sight_leave_gaps_and_no_error() -> None:
    lone = replace(ROUNDS[0], phases={name: replace(p, cpu=None) for name, p in ROUNDS[0].phases.items()})
    rows = report.summarise([lone], streams=64)
    assert "cpu_outside_engine" not in rows
    assert rows["throughput_loaded"].against is None
    assert report.cpu_split([lone]) == {}


def test_percentiles_are_interpolated() -> None:
    assert report.percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert report.percentile([0.0, 10.0], 0.95) == pytest.approx(9.5)
    assert report.percentile([7.0], 0.95) == 7.0


def test_a_busy_machine_and_an_unseen_engine_are_said_aloud() -> None:
    loaded = replace(ROUNDS[0].phases[LOADED], cpu={"other": 1.0}, foreign_cpu_s=0.05)
    (busy, unseen) = report.warnings([replace(ROUNDS[0], phases={LOADED: loaded})])
    assert "others used 0.50 cores" in busy
    assert "no engine process found" in unseen


def test_the_file_holds_the_summary_and_each_timing(tmp_path: Path) -> None:
    report.write(tmp_path / "new" / "overhead.json", report.document(ROUNDS, Load(), {"seed": "s"}))
    written = json.loads((tmp_path / "new" / "overhead.json").read_text())
    assert written["summary"]["throughput_loaded"]["ratio"]["median"] == 0.85
    assert written["rounds"][0]["phases"][LOADED]["ttft_s"] == [0.01]
    assert {"python", "vllm", "ray", "torch", "cpu", "cores", "commit"} <= set(written["environment"])


def test_the_default_run_is_small_enough_for_a_coffee_break() -> None:
    phases = Load().phases()
    assert arguments([]).rounds == 2
    assert phases[TTFT][1] >= 40
    assert sum(streams * requests * tokens for streams, requests, tokens in phases.values()) < 50_000


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--tokens", "1"], ["--only", "bare", "--fail-under", "0.6"]])
def test_options_that_make_no_sense_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(words)
