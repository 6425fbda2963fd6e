"""What docs/batches.md shows is run: its file, its commands in order, its Python, its curl lines."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving.cli import cli
from tests.local import Site, listening
from tests.test_readme import BATCHES, commands_in


def blocks(kind: str) -> list[str]:
    """The page's code blocks of this kind."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", BATCHES.read_text(), re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == kind]


def test_the_page_works_from_top_to_bottom(
    site: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = site()
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".clinserve").mkdir()
    (tmp_path / ".clinserve/demo.key").write_text(place.key)
    (tmp_path / "notes.jsonl").write_text(blocks("json")[0].replace("clinical-demo", "echo"))
    with listening(place.app) as url:
        environment = {"CLINSERVE_URL": url, "CLINSERVE_API_KEY": place.key}
        id = ""
        for command in commands_in(BATCHES.read_text()):
            words = [id if word == "batch_0a1b" else word for word in command]
            done = CliRunner().invoke(cli, words, env=environment)
            # The last one, to cancel, comes too late here.
            assert done.exit_code == (1 if "cancel" in words else 0), (words, done.output)
            id = id or done.stdout.split()[0]
        assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 2
        python = blocks("python")[0].replace("http://127.0.0.1:8000", url)
        answers = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, check=True).stdout
        assert "note-1" in answers and "note-2" in answers
        _curl_lines_work(url, place.key)


def _curl_lines_work(url: str, key: str) -> None:
    text = next(block for block in blocks("") if "curl" in block)
    upload, create, show, download = re.findall(r"^curl.*?(?=^curl|\Z)", text, re.MULTILINE | re.DOTALL)

    def answer_to(line: str, **ids: str) -> str:
        for name, id in ids.items():
            line = line.replace(f"{name}_0a1b" if name == "batch" else f"{name}-0a1b", id)
        words = ["bash", "-c", line]
        return subprocess.run(words, env=os.environ | {"URL": url, "KEY": key}, capture_output=True, text=True).stdout

    file = json.loads(answer_to(upload))["id"]
    batch = json.loads(answer_to(create, file=file))["id"]
    while json.loads(answer_to(show, batch=batch))["status"] != "completed":
        time.sleep(0.05)
    assert "note-1" in answer_to(download, file=f"file-{batch.removeprefix('batch_')}")
