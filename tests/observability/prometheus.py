"""A real Prometheus in tests: scrapes one address with our rules, and answers queries."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "observability"
_NOT_NAMES = re.compile(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|group_left)\s*\([^)]*\)')


def tool(name: str) -> str:
    """Its path. In CI it is there; elsewhere a test without it is skipped."""
    found = shutil.which(name)
    if found is None:
        assert "CI" not in os.environ, f"{name} is not installed"
        pytest.skip(f"{name} is not installed")
    return found


def metrics_in(expr: str) -> set[str]:
    """The metrics that an expression reads."""
    words = re.findall(r"(?<![\w:])[a-z_][\w:]*", _NOT_NAMES.sub(" ", expr))
    return {word for word in words if word == "up" or word.startswith(("clinserve", "gen_ai", "vllm:"))}


def expressions() -> list[tuple[str, str]]:
    """Every expression of the dashboards, with its panel's title; choices at the top are made: all of them."""
    found = []
    for file in sorted((FOLDER / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                expr = re.sub(r'=~"\$\w+"', '=~".*"', target["expr"]).replace("$__rate_interval", "1m")
                found.append((f"{file.stem}: {panel['title']}", expr))
    return found


@dataclass
class Prometheus:
    url: str

    def ask(self, expr: str) -> list[Any]:
        """The samples of an instant query; fails on an expression that is not valid."""
        query = urllib.parse.urlencode({"query": expr})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}") as response:
            return list(json.load(response)["data"]["result"])

    def exemplars(self, metric: str) -> list[Any]:
        query = urllib.parse.urlencode({"query": metric, "start": time.time() - 600, "end": time.time() + 60})
        with urllib.request.urlopen(f"{self.url}/api/v1/query_exemplars?{query}") as response:
            return list(json.load(response)["data"])

    def wait_for(self, expr: str, seconds: float = 30.0) -> list[Any]:
        end = time.monotonic() + seconds
        while not (found := self.ask(expr)):
            assert time.monotonic() < end, f"nothing for {expr}"
            time.sleep(0.1)
        return found


@contextmanager
def prometheus(target: str, folder: Path) -> Iterator[Prometheus]:
    """target: host:port. Scrapes and evaluates the rules twice a second."""
    config = (FOLDER / "prometheus.yml").read_text()
    config = config.replace("127.0.0.1:9464", target).replace("rules/", f"{FOLDER}/rules/").replace(" 15s", " 500ms")
    (folder / "prometheus.yml").write_text(config)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        tool("prometheus"), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn", "--enable-feature=exemplar-storage",
    ]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    running = Prometheus(f"http://127.0.0.1:{port}")
    try:
        end = time.monotonic() + 30
        while True:
            try:
                running.ask("vector(1)")
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.05)
        yield running
    finally:
        process.terminate()
        process.wait()
