"""Schemas are compiled by the real xgrammar, in a process that nothing can hold up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from serving.grammars.compiler import SchemaCompiler
from serving.grammars.worker import Setup

MODEL = Path(__file__).parents[2] / "deploy" / "demo_model" / "clinical-demo"
DEAR = {"type": "string", "pattern": "^(([a-z]{1,9}){1,9}){1,9}$"}
PATIENT = {"wall": 100.0}
"""Of a test that is about CPU time, on a machine that does much else."""


@pytest.fixture(scope="module")
def vocabulary() -> str:
    xgrammar = pytest.importorskip("xgrammar")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    text: str = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=len(tokenizer)).serialize_json()
    return text


@asynccontextmanager
async def compiling(vocabulary: str, *, waiting: int = 64, **setup: Any) -> AsyncIterator[SchemaCompiler]:
    compiler = SchemaCompiler(Setup(vocabulary, **PATIENT | setup), waiting=waiting)
    await compiler.start()
    try:
        yield compiler
    finally:
        await compiler.close()


def workers(parent: int | None = None) -> list[psutil.Process]:
    return [one for one in psutil.Process(parent).children() if "serving.grammars.worker" in one.cmdline()]


async def test_each_schema_has_the_verdict_that_it_deserves(vocabulary: str) -> None:
    async with compiling(vocabulary, seconds=1.0) as compiler:
        for schema, verdict in [
            ({"type": "array", "items": {"enum": ["a", "b"]}}, "good"),
            ({"type": "string", "pattern": "^[a-z]{1,20}$"}, "good"),
            ({"oneOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}, "good"),
            ({}, "good"),
            (DEAR, "dear"),
            ({"type": "string", "pattern": "^[a-z]{1,5000}$"}, "dear"),
            ({"type": "nothing that exists"}, "invalid"),
            ({"type": "string", "pattern": "^(?=a)[a-z]$"}, "ignored"),
            ({"type": "string", "pattern": "^[a-z]+$", "maxLength": 3}, "ignored"),
            ({"$ref": "https://example.org"}, "ignored"),
            ({"$ref": "#"}, "empty"),
        ]:
            assert await compiler.verdict("json", json.dumps(schema)) == verdict, schema
        assert await compiler.verdict("json", "no JSON") == "invalid"
        assert await compiler.verdict("structural_tag", '{"type": "nothing that exists"}') == "invalid"


@pytest.mark.slow
async def test_what_takes_too_much_memory_is_dear(vocabulary: str) -> None:
    schema = {"enum": [f"{i}" * 40 for i in range(1000)]}
    async with compiling(vocabulary, memory=2**20) as compiler:
        assert await compiler.verdict("json", json.dumps(schema)) == "dear"


@pytest.mark.slow
async def test_a_machine_that_has_no_time_is_busy_and_nothing_is_remembered(vocabulary: str) -> None:
    async with compiling(vocabulary, wall=0.1, seconds=30) as compiler:
        assert await compiler.verdict("json", json.dumps(DEAR)) == "busy"
        assert await compiler.verdict("json", json.dumps(DEAR)) == "busy"


@pytest.mark.slow
async def test_the_same_schema_is_compiled_once_and_who_leaves_stops_nothing(vocabulary: str) -> None:
    async with compiling(vocabulary, seconds=1.0, waiting=-1) as compiler:  # a place for one
        asking = [asyncio.create_task(compiler.verdict("json", json.dumps(DEAR))) for _ in range(20)]
        await asyncio.sleep(0.1)
        asking[0].cancel()
        assert await compiler.verdict("json", "{}") == "busy"  # another has no place
        assert set(await asyncio.gather(*asking[1:])) == {"dear"}
        (worker,) = workers()
        before = worker.cpu_times()
        assert await compiler.verdict("json", json.dumps(DEAR)) == "dear"
        assert worker.cpu_times() == before


@pytest.mark.slow
async def test_who_asks_for_much_keeps_nobody_waiting(vocabulary: str) -> None:
    async with compiling(vocabulary, seconds=30) as compiler:
        texts = [json.dumps(DEAR | {"pattern": f"{DEAR['pattern'][:-1]}{number}$"}) for number in range(40)]
        dear = [asyncio.create_task(compiler.verdict("json", text, owner="a")) for text in texts]
        await asyncio.sleep(0.1)
        assert sum(one.done() and one.result() == "busy" for one in dear) == 23  # one runs, and a quarter waits
        assert await compiler.verdict("json", "{}", owner="b") == "good"
        assert len(workers()[0].children()) == 1


@pytest.mark.slow
async def test_a_worker_that_died_is_started_again(vocabulary: str) -> None:
    async with compiling(vocabulary) as compiler:
        (worker,) = workers()
        asking = asyncio.create_task(compiler.verdict("json", json.dumps(DEAR)))
        await asyncio.sleep(0.1)
        worker.kill()
        assert await asking == "busy"
        assert await compiler.verdict("json", "{}") == "good"


@pytest.mark.slow
async def test_a_compiler_that_is_closed_leaves_no_process(vocabulary: str) -> None:
    async with compiling(vocabulary) as compiler:
        (worker,) = workers()
        asking = asyncio.create_task(compiler.verdict("json", json.dumps(DEAR)))
        await asyncio.sleep(0.1)
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not worker.is_running() and not workers()


ORPHANED = """
import asyncio, sys
from serving.grammars.compiler import SchemaCompiler
from serving.grammars.worker import Setup

async def main():
    compiler = SchemaCompiler(Setup(sys.stdin.read(), seconds=60, wall=600))
    await compiler.start()
    print("started", flush=True)
    await compiler.verdict("json", sys.argv[1])

asyncio.run(main())
"""


@pytest.mark.slow
def test_no_process_outlives_a_parent_that_is_killed(vocabulary: str) -> None:
    command = [sys.executable, "-c", ORPHANED, json.dumps(DEAR)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin and parent.stdout
        parent.stdin.write(vocabulary)
        parent.stdin.close()
        assert parent.stdout.readline() == "started\n"
        (worker,) = workers(parent.pid)
        until = time.monotonic() + 30
        while not worker.children() and time.monotonic() < until:
            time.sleep(0.05)
        family = [worker, *worker.children()]
        os.kill(parent.pid, signal.SIGKILL)
    assert len(family) == 2
    assert psutil.wait_procs(family, timeout=30)[1] == []


@pytest.mark.slow
async def test_the_worker_knows_none_of_the_parents_secrets(vocabulary: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINSERVE_ENGINE_SECRET", "canary")
    async with compiling(vocabulary):
        (worker,) = workers()
        assert "canary" not in worker.environ().values() and worker.environ()["CUDA_VISIBLE_DEVICES"] == ""
