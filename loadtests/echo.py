"""Starts the product with its echo engine, whose times are set, as a process of its own: a server that is known."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from loadtests.overhead.servers import answers, tail
from loadtests.runs import ROOT, RunError

START_TIMEOUT_S = 60.0


@contextlib.contextmanager
def running(first_token: float, inter_token: float, port: int) -> Iterator[tuple[str, str]]:
    """Its URL and a key. Times in seconds. Leaves nothing behind."""
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
            yield f"http://127.0.0.1:{port}", Path(folder, "state", "demo.key").read_text().strip()
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
