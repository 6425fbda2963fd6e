"""The product for this drill: started, killed in part or whole, started again on its state, asked for its ledger."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import openai
import psutil

from loadtests.overhead.processes import MARK, Processes, end, role, title

ROOT = Path(__file__).resolve().parents[2]
START_S, STOP_S = 300.0, 60.0


class DrillError(Exception):
    """The run cannot go on; the message says why."""


class Server:
    """config: of the product. state: its directory, which outlives its processes."""

    def __init__(self, config: Path, state: Path, log: Path) -> None:
        self._config = config
        self._state = state
        self._log = log
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    @property
    def key(self) -> str:
        return (self._state / "demo.key").read_text().strip()

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=30)

    def start(self) -> float:
        """Seconds until it was ready."""
        began, mark = time.monotonic(), secrets.token_hex(8)
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command("serve", "--config", str(self._config), "--port", str(self._port)),
                cwd=ROOT,
                env=self._environment | {MARK: mark},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._processes = Processes(self._process.pid, mark)
        while not self.ready():
            if self._process.poll() is not None or time.monotonic() - began > START_S:
                raise DrillError(f"the server did not start; its log is {self._log}")
            time.sleep(0.5)
        return time.monotonic() - began

    def ready(self) -> bool:
        with contextlib.suppress(openai.APIError, OSError):
            # Not /readyz: it says whether the model would answer, and the first start has to write the key.
            return bool(self.client.models.list().data) and self._answers()
        return False

    def _answers(self) -> bool:
        said: Any = [{"role": "user", "content": "hello"}]
        return bool(self.client.chat.completions.create(model=self.model, messages=said, max_tokens=1).choices)

    @property
    def model(self) -> str:
        return str(self.client.models.list().data[0].id)

    def kill_gateway(self) -> None:
        """SIGKILL to the process that takes requests and runs batches. Ray starts another."""
        gateways = [process for process in self._processes.find() if _role(process) == "gateway"]
        if not gateways:
            raise DrillError("no gateway process was found")
        for process in gateways:
            process.kill()

    def kill(self) -> int:
        """SIGKILL to every process of the server at once; how many. Nothing is told anything."""
        family = self._processes.find()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=10)
        end(self._processes.find())  # born meanwhile
        self._process.wait(10)
        return len(family)

    def stop(self) -> None:
        family = self._processes.find()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.send_signal(signal.SIGINT)
            self._process.wait(STOP_S)
        end(family | self._processes.find())
        self._process.wait(10)

    def ledger(self) -> list[dict[str, Any]]:
        """Every record of the usage ledger, as `clinserve usage` tells it."""
        words = self._command("--config", str(self._config), "usage", "--records", "--json")
        done = subprocess.run(words, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=True)
        records: list[dict[str, Any]] = json.loads(done.stdout)
        return records

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "serving.cli", *words]

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "CLINSERVE_SERVER__STATE_DIR": str(self._state), "PYTHONUNBUFFERED": "1"}


def _role(process: psutil.Process) -> str:
    try:
        return role(title(process))
    except psutil.Error:
        return "gone"
