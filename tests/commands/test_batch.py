"""`clinserve batch`: from a file to its results, on an echo server on a real socket."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest
from typer.testing import CliRunner, Result

from serving.cli import cli
from serving.commands.batch_files import Watched
from tests.batches.conftest import jsonl, line, rows
from tests.conftest import OpenSite
from tests.local import Site, listening


class Server(NamedTuple):
    url: str
    site: Site
    folder: Path

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(cli, ["batch", *words, "--url", self.url, "--key", self.site.key])

    def tells(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").stdout)

    def file(self, *lines: Any) -> str:
        """The path of a file of lines: objects, or bytes as they are."""
        path = self.folder / "in.jsonl"
        path.write_bytes(b"".join(one if isinstance(one, bytes) else jsonl([one]) for one in lines))
        return str(path)

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.site.key)


@pytest.fixture
def server(site: OpenSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    open_site = site(echo={"failures": [{"when": "SLOW", "action": "stall"}]})
    monkeypatch.chdir(tmp_path)
    with listening(open_site.app) as url:
        yield Server(url, open_site, tmp_path)


def test_a_file_becomes_its_results(server: Server) -> None:
    submitted = server.run("submit", server.file(*[line(n) for n in range(9)]), "--metadata", "study=a b=c")
    assert submitted.exit_code == 0, submitted.output
    id, _, lines = submitted.stdout.strip().partition("  ")
    assert lines == "9 lines" and f"clinserve batch wait {id}" in submitted.stderr
    waited = server.run("wait", id)
    assert waited.exit_code == 0 and f"{id}  completed  echo\n9 lines: 9 completed, 0 failed\n" in waited.stdout
    assert "completed 9/9, 0 failed" in waited.stderr
    assert server.tells("status", id)["metadata"] == {"study": "a b=c"}
    fetched = server.run("fetch", id)
    assert fetched.exit_code == 0
    file = server.folder / f"{id}_output.jsonl"
    assert len(rows(file.read_text())) == 9 and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in server.folder.glob("*.jsonl*") if "error" in one.name or "part" in one.name] == []
    assert id in server.run("list").stdout and server.tells("list", "--limit", "1")[0]["id"] == id


def test_submit_can_wait_and_its_status_says_how_it_went(server: Server) -> None:
    done = server.run("submit", server.file(line(1)), "--wait", "--json")
    assert (done.exit_code, json.loads(done.stdout)["status"]) == (0, "completed")
    bad = line(2)
    bad["body"] = bad["body"] | {"temperature": 99}
    partly = server.run("submit", server.file(line(1), bad), "--wait")
    assert partly.exit_code == 3 and "2 lines: 1 completed, 1 failed" in partly.stdout
    id = partly.stdout.split()[0]
    fetched = server.run("fetch", id, "-o", "-", "--errors", str(server.folder / "e.jsonl"))
    assert fetched.exit_code == 3
    assert [one["custom_id"] for one in rows(fetched.stdout)] == ["t-1"]
    assert [one["custom_id"] for one in rows((server.folder / "e.jsonl").read_text())] == ["t-2"]


def test_a_batch_that_fails_says_where_and_has_a_status_of_its_own(server: Server) -> None:
    """As the server sees it: the command would not have sent this file."""
    file = server.client.files.create(file=("x", jsonl([line(1), line(1)])), purpose="batch")
    batch = server.client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    waited = server.run("wait", batch.id)
    assert waited.exit_code == 4
    assert "line 2: duplicate_custom_id: Another line has this custom_id." in waited.stdout


@pytest.mark.parametrize(
    ("lines", "problems"),
    [
        ([line(1), b"\n", b"{no", b"\n"], ["in.jsonl:3: This line is not valid JSON."]),
        ([line(1), line(1), line(2, method="GET")], ["in.jsonl:2: Another line", "in.jsonl:3: 'method' must be POST"]),
        ([line(1, body={"model": "big"})], ["in.jsonl:1: 'model' is not a deployment"]),
        ([b"\n"], ["in.jsonl: the file has no requests"]),
        ([b"{}\n"] * 50, ["in.jsonl:20: ", "and perhaps more"]),
    ],
)
def test_a_bad_file_is_not_sent_and_each_problem_is_a_line(
    server: Server, lines: list[Any], problems: list[str]
) -> None:
    refused = server.run("submit", server.file(*lines))
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert all(problem in refused.stderr for problem in problems), refused.stderr
    assert server.client.files.list().data == []


def test_what_the_server_refuses_is_one_line_and_leaves_no_file(server: Server) -> None:
    refused = server.run("submit", server.file(line(1)), "--window", "1h")
    assert (refused.exit_code, refused.stderr.count("\n")) == (
        1,
        1,
    ) and "'completion_window' must be 24h" in refused.stderr
    assert server.client.files.list().data == []
    for words, problem in (
        (["status", "batch_0"], "There is no batch of this id"),
        (["submit", "/nowhere"], "/nowhere: No such file"),
        (["submit", server.file(line(1)), "--metadata", "x"], "--metadata takes NAME=VALUE"),
        (["submit", server.file(line(1)), "--endpoint", "/v1/embeddings"], "not the endpoint"),
    ):
        result = server.run(*words)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1) and problem in result.stderr
    assert server.client.files.list().data == []


def test_without_a_server_that_is_told(server: Server) -> None:
    result = server._replace(url="http://127.0.0.1:9").run("list")
    assert result.exit_code == 1 and "no server answers at http://127.0.0.1:9" in result.stderr


def test_interrupting_the_waiting_leaves_the_batch_running(server: Server) -> None:
    submitted = server.run("submit", server.file(line(1, "SLOW")))
    id = submitted.stdout.split()[0]
    command = [sys.executable, "-m", "serving.cli", "batch", "wait", id, "--url", server.url, "--key", server.site.key]
    waiting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert waiting.stderr is not None
    while "0/1" not in (said := waiting.stderr.readline()):
        assert said, "ended"
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=20)
    assert waiting.returncode == 130
    assert f"clinserve batch wait {id}" in said and f"clinserve batch cancel {id}" in said and "Traceback" not in said
    unfinished = server.run("fetch", id)
    assert unfinished.exit_code == 1 and "the batch is still in_progress" in unfinished.stderr
    assert server.tells("cancel", id)["status"] == "cancelling"
    assert server.run("wait", id).exit_code == 3
    assert server.tells("status", id)["status"] == "cancelled"


def test_a_server_that_is_away_for_a_while_is_waited_for(site: OpenSite, tmp_path: Path) -> None:
    open_site = site(echo={"first_token": 1.0})
    with listening(open_site.app) as url:
        server = Server(url, open_site, tmp_path)
        id = server.run("submit", server.file(*[line(n) for n in range(600)])).stdout.split()[0]
        port = int(url.rpartition(":")[2])
        command = [sys.executable, "-m", "serving.cli", "batch", "wait", id, "--url", url, "--key", open_site.key]
        waiting = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        waiting.stderr.readline()
    while "does not answer" not in (said := waiting.stderr.readline()):
        assert said, "ended"
    with listening(site(echo={"first_token": 0.0}).app, port=port):
        out, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 0 and "600 completed" in out


def test_uploading_reads_a_piece_at_a_time(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(b"x" * 10**6)
    told: list[int] = []
    with file.open("rb", buffering=0) as raw:
        client = openai.OpenAI(base_url="http://127.0.0.1:9", api_key="x", max_retries=0)
        request = client._client.build_request("POST", "/", files={"file": ("a", Watched(raw, told.append))})
        began = time.monotonic()
        body = b"".join(request.stream)  # type: ignore[arg-type]
    assert len(body) > 10**6 and max(told) < 2 * 10**5 and sum(told) == 10**6
    assert time.monotonic() - began < 10
