"""The whole product as a user runs it: `clinserve serve` in a process of its own, and what it printed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from serving.settings import METRICS_ABOVE

ROOT = Path(__file__).parents[2]
START_SECONDS = 300


class Product:
    """Start with `start`, stop with `stop`. `output` is what has been printed so far."""

    def __init__(self, state_dir: Path, config: str = "deploy/configs/demo.yaml") -> None:
        self.state_dir = state_dir
        self.config = config
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.metrics_url = f"http://127.0.0.1:{self.port + METRICS_ABOVE}/metrics"
        self._lines = []
        self._given: dict[str, str] = {}
        self.killed_gateways = 0
        """By tests: their audit chains stay open."""

    def bring(self, key: str, variable: str) -> None:
        """Have this demo key rather than a new one, and tell it to the product, which is a client of itself then."""
        file = self.state_dir / "demo.key"
        file.touch(mode=0o600)
        file.write_text(key)
        self._given[variable] = key

    @property
    def output(self) -> str:
        return "".join(self._lines)

    @property
    def key(self) -> str:
        return (self.state_dir / "demo.key").read_text().strip()

    @property
    def logs(self) -> Path:
        """Ray's log folder, as printed."""
        found = re.search(r"Logs +(\S+)", self.output)
        assert found, self.output
        return Path(found[1])

    @property
    def environment(self) -> dict[str, str]:
        ours = {
            "CLINSERVE_SERVER__STATE_DIR": str(self.state_dir),
            "CLINSERVE_TELEMETRY__METRICS_INTERVAL": "0",  # tests look before and after
            "VLLM_CACHE_ROOT": str(ROOT / ".clinserve/vllm-cache"),  # what vLLM has found out, kept between products
        }
        return os.environ | ours | self._given

    def start(self) -> None:
        """Also again, with a new output."""
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "serving.cli", "serve", "--config", self.config, "--port", str(self.port)],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        threading.Thread(target=lambda out: self._lines.extend(out), args=(self._process.stdout,), daemon=True).start()
        self.wait_for_output("Ctrl-C stops everything", START_SECONDS)

    def wait_for_output(self, text: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while text not in self.output:
            assert self._process.poll() is None, f"the server ended:\n{self.output}"
            assert time.monotonic() < end, f"no '{text}' after {seconds} s:\n{self.output}"
            time.sleep(0.1)

    def processes(self) -> list[psutil.Process]:
        return [self._psutil, *self._psutil.children(recursive=True)]

    @property
    def _psutil(self) -> psutil.Process:
        return psutil.Process(self._process.pid)

    def engine_core(self, deployment: str) -> psutil.Process:
        """A deployment's vLLM engine process: the child of its replica."""
        engines = [p for p in self.processes() if "VLLM::EngineCore" in " ".join(p.cmdline())]
        return next(p for p in engines if f"engine-{deployment}:" in " ".join(p.parent().cmdline()))

    def stop(self, sign: signal.Signals = signal.SIGINT) -> int:
        """Ctrl-C, or another signal; then the exit status."""
        self._process.send_signal(sign)
        try:
            return self._process.wait(timeout=60)
        finally:
            self._process.kill()

    @property
    def status(self) -> int | None:
        """The exit status, once it has ended."""
        return self._process.poll()
