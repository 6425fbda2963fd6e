"""`clinserve serve`: what it refuses before it starts anything, what it prints, and the key it makes."""

from __future__ import annotations

import ast
import contextlib
import io
import shlex
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from serving.app import build_keyring
from serving.cli import cli
from serving.commands.progress import Progress
from serving.commands.serve import CannotStart, announce, check_machine, demo_key, memory_needed, readable
from serving.settings import Settings, parse
from tests.conftest import OpenSite
from tests.local import listening

ECHO = {"name": "echo", "engine": {"kind": "echo"}}
VLLM = {"name": "big", "model": {"source": "org/model"}, "engine": {"kind": "vllm", "device": "cpu"}}


def settings(state: Path, **changes: Any) -> Settings:
    tree = {
        "server": {"runtime": "process", "state_dir": state},
        "deployments": [{"name": "echo", "engine": {"kind": "echo"}}],
    }
    return parse(tree | changes)


def cpu_replicas(count: int, **env: str) -> dict[str, Any]:
    return VLLM | {"replicas": count, "engine": VLLM["engine"] | {"env": env}}  # type: ignore[operator]


def test_a_port_that_is_taken_is_one_line_and_nothing_is_left_behind(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        tree = settings(tmp_path / "state").model_dump(mode="json")
        file.write_text(yaml.safe_dump(tree))
        result = CliRunner().invoke(cli, ["serve", "--config", str(file), "--port", str(port)])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in result.stderr
    assert "--port" in result.stderr and not (tmp_path / "state").exists()


def test_too_little_memory_is_one_line_with_what_is_needed(tmp_path: Path) -> None:
    server = {"port": free_port(), "state_dir": tmp_path}
    with pytest.raises(
        CannotStart, match=r"^too little memory: [\d.]+ GiB are free, about 75001\.0 GiB are needed\. .*"
    ):
        check_machine(settings(tmp_path, server=server, deployments=[cpu_replicas(10_000)]))


def test_a_machine_that_suffices_is_no_problem(tmp_path: Path) -> None:
    check_machine(settings(tmp_path, server={"runtime": "process", "port": free_port(), "state_dir": tmp_path}))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_memory_is_that_of_each_replica_on_this_machines_cpu_and_its_cache(tmp_path: Path) -> None:
    def need(*deployments: dict[str, Any]) -> float:
        return memory_needed(settings(tmp_path, server={"state_dir": tmp_path}, deployments=deployments))

    alone = need(ECHO)
    small, large = (need(cpu_replicas(1, VLLM_CPU_KVCACHE_SPACE=size)) for size in ("1", "5"))
    assert large - small == 4
    assert need(cpu_replicas(2, VLLM_CPU_KVCACHE_SPACE="1")) - small == small - alone
    assert need(VLLM | {"engine": {"kind": "vllm", "device": "gpu"}}) == alone


LINE = {
    "time": "2026-11-23T16:17:35.905Z", "event": "request", "request_id": "req_1", "method": "POST",
    "route": "/v1/chat/completions", "status": 200, "outcome": "ok", "tenant": "ward", "key_id": "x",
    "deployment": "echo", "stream": True, "prompt_tokens": 3, "cached_tokens": 0, "completion_tokens": 5,
    "ttft_ms": 12.5, "tpot_ms": 1.0, "duration_ms": 40.0,
}  # fmt: skip


def test_a_log_line_is_readable() -> None:
    assert readable(LINE) == (
        "16:17:35  200  POST  /v1/chat/completions  echo  3+5 tokens  ttft 12.5 ms  40.0 ms  req_1"
    )
    refused = LINE | {"status": 404, "outcome": "not_found", "deployment": "", "ttft_ms": None, "route": "other"}
    assert readable(refused) == "16:17:35  404  POST  other  40.0 ms  not_found  req_1"
    broke = {"time": LINE["time"], "event": "internal_error", "request_id": "req_1", "error": "KeyError", "at": []}
    assert readable(broke) == "16:17:35 internal_error KeyError req_1"


async def test_the_lines_of_a_real_log_are_readable(site: OpenSite) -> None:
    open_site = site()
    await open_site.client().get("/v1/models")
    assert "GET  /v1/models" in readable(open_site.log()[0])


async def test_the_demo_key_is_made_once_works_and_is_its_owners_only(tmp_path: Path) -> None:
    configured = settings(tmp_path / "state", keys={"demo_key_file": "demo.key"})
    key = demo_key(configured)
    file = tmp_path / "state" / "demo.key"
    assert key is not None and file.read_text() == key + "\n" and file.stat().st_mode & 0o777 == 0o600
    assert demo_key(configured) == key
    assert (await build_keyring(configured).identify(key)).tenant == "demo"


async def test_a_demo_key_outlives_its_database(tmp_path: Path) -> None:
    configured = settings(tmp_path, keys={"demo_key_file": "demo.key"})
    key = demo_key(configured)
    (tmp_path / "clinserve.db").unlink()
    assert key is not None and demo_key(configured) == key
    assert (await build_keyring(configured).identify(key)).tenant == "demo"


def test_without_a_place_for_it_there_is_no_demo_key(tmp_path: Path) -> None:
    assert demo_key(settings(tmp_path / "state")) is None
    assert not (tmp_path / "state").exists()


def announced(configured: Settings, key: str | None = "csk_key") -> str:
    console = Console(file=io.StringIO(), highlight=False, soft_wrap=True)
    announce(configured, Progress(console), key)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_is_printed_when_ready_tells_where_with_what_and_which_model(tmp_path: Path) -> None:
    server = {"runtime": "process", "host": "0.0.0.0", "port": 9000, "state_dir": tmp_path}
    model = {"notice": "Not for clinical use [yet]."}
    text = announced(settings(tmp_path, server=server, deployments=[ECHO | {"model": model}]))
    for part in ("http://127.0.0.1:9000/v1", "csk_key", "echo  Not for clinical use [yet].", "Ctrl-C"):
        assert part in text
    assert "clinserve keys create" not in text
    assert "/console" in text and "/console" not in announced(settings(tmp_path, console={"enabled": False}))
    assert "YOUR_KEY" in (keyless := announced(settings(tmp_path), None)) and "clinserve keys create" in keyless


def test_the_curl_that_is_printed_is_a_request_that_works(site: OpenSite) -> None:
    open_site = site()
    with listening(open_site.app) as url:
        line = next(
            line for line in announced(at(open_site.settings, url), open_site.key).splitlines() if "curl -s" in line
        )
        _, _, address, *options = shlex.split(line)
        headers = dict(
            value.split(": ") for flag, value in zip(options[::2], options[1::2], strict=True) if flag == "-H"
        )
        response = httpx.post(address, headers=headers, content=options[options.index("-d") + 1])
    assert "lisinopril" in response.json()["choices"][0]["message"]["content"]


def test_the_python_that_is_printed_works(site: OpenSite) -> None:
    open_site, printed = site(), io.StringIO()
    with listening(open_site.app) as url, contextlib.redirect_stdout(printed):
        text = announced(at(open_site.settings, url), open_site.key)
        code = text[text.index("from openai") : text.index("Ctrl-C")]
        exec(compile(ast.parse(code), "printed", "exec"), {})
    assert "lisinopril" in printed.getvalue()


def at(configured: Settings, url: str) -> Settings:
    server = configured.server.model_copy(update={"port": int(url.rpartition(":")[2])})
    return configured.model_copy(update={"server": server})


def test_steps_say_how_long_they_took() -> None:
    console = Console(file=io.StringIO(), highlight=False)
    progress = Progress(console)
    with progress.step("Started [x]"):
        pass
    assert isinstance(console.file, io.StringIO) and "✓ Started" in console.file.getvalue()
