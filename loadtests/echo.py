"""Starts the product with its echo engine, whose times are set, as a process of its own: a server that is known."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from loadtests.overhead.servers import answers, tail
from loadtests.runs import ROOT, RunError

START_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Echo:
    """A server that runs. log: a line of JSON for each request, with the times on the gateway's own clock."""

    url: str
    key: str
    log: Path

    def requests(self, since: int = 0) -> list[dict[str, Any]]:
        """The streamed answers that it logged, without the first so many lines of the log."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()[since:]]
        return [line for line in lines if line.get("stream") and line.get("outcome") == "ok"]

    def lines(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


@contextlib.contextmanager
def running(first_token: float, inter_token: float, port: int) -> Iterator["Echo"]:
    """Times in seconds. Leaves nothing behind."""
    with tempfile.TemporaryDirectory(prefix="clinserve-loadtests-") as folder:
        config, log = Path(folder, "echo.yaml"), Path(folder, "log")
        engine = {"kind": "echo", "first_token": first_token, "inter_token": inter_token}
        settings = {
            "server": {"runtime": "process", "port": port, "state_dir": f"{folder}/state"},
            "keys": {"demo_key_file": "demo.key"},
            "telemetry": {"request_log": "file"},
            "deployments": [{"name": "echo", "engine": engine}],
        }
        config.write_text(yaml.safe_dump(settings))
        command = [sys.executable, "-m", "serving.cli", "serve", "--config", str(config)]
        with log.open("wb") as output:
            server = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
        try:
            end = time.monotonic() + START_TIMEOUT_S
            while not answers(port, "/readyz"):
                if server.poll() is not None or time.monotonic() > end:
                    raise RunError(f"the echo server did not start\n{tail(log)}")
                time.sleep(0.1)
            state = Path(folder, "state")
            key = (state / "demo.key").read_text().strip()
            yield Echo(f"http://127.0.0.1:{port}", key, state / "logs" / "requests.jsonl")
        finally:
            server.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(20)
            server.kill()
            server.wait(5)


def load() -> str:
    """The machine's load, to stand beside every figure."""
    one, five, _ = os.getloadavg()
    return f"load average {one:.1f} (1 min), {five:.1f} (5 min) on {os.cpu_count()} cores"
