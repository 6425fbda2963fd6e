"""The product with echo replicas under Ray Serve: upgraded, scaled, hurt, and asked how it is."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import yaml

from loadtests.batches.server import ROOT, DrillError, Server
from loadtests.metrics_page import metrics_page
from loadtests.overhead.processes import title

MODEL = "steady"
RELOAD_S = 300.0
_TITLES = {
    "engine": f"ray::ServeReplica:engine-{MODEL}",
    "gateway": "ray::ServeReplica:gateway",
    "controller": "ray::ServeController",
}


class FleetServer(Server):
    """folder: for its state, its configuration and its log. inter_token: seconds. gateways: several need a Redis."""

    def __init__(self, folder: Path, *, replicas: int, inter_token: float, gateways: int = 1, **more: Any) -> None:
        self._file = folder / "fleet.yaml"
        self._redis: subprocess.Popen[bytes] | None = None
        self._tree: dict[str, Any] = {
            "keys": {"demo_key_file": "demo.key"},
            "telemetry": {"request_log": "off"},
            "gateway": {"replicas": gateways, "num_cpus": 0.1},
            "usage": {"flush": 0.2},
            "deployments": [
                {
                    "name": MODEL,
                    "engine": {"kind": "echo", "place": "replicas", "inter_token": inter_token},
                    "replicas": replicas,
                    "limits": {"max_in_flight": 1024},
                    **more,
                }
            ],
        }
        if gateways > 1:
            self._tree["quotas"] = {"redis": self._start_redis()}
        self._write()
        super().__init__(self._file, folder / "state", folder / "server.log")

    def _start_redis(self) -> str:
        binary = shutil.which("redis-server")
        if binary is None:
            raise DrillError("several gateways need redis-server on this machine")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        words = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        self._redis = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return f"redis://127.0.0.1:{port}/0"

    def _write(self) -> None:
        self._file.write_text(yaml.safe_dump(self._tree))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        if self._redis is not None:
            self._redis.terminate()
            self._redis.wait(10)

    def configure(self, *, server: dict[str, Any] | None = None, **deployment: Any) -> None:
        """Change settings in the file, of the deployment and the server; `reload` puts them in force. None: unset."""
        changed = self._tree["deployments"][0] | deployment
        self._tree["deployments"] = [{name: value for name, value in changed.items() if value is not None}]
        self._tree.setdefault("server", {}).update(server or {})
        self._write()

    def reload(self, *restart: str) -> float:
        """Seconds until what differs, and what is to restart, is replaced."""
        began = time.monotonic()
        words = self._command(
            "reload", "--config", str(self._file), *(w for name in restart for w in ("--restart", name))
        )
        done = subprocess.run(
            words, cwd=ROOT, env=self._environment, capture_output=True, text=True, timeout=RELOAD_S, check=False
        )
        if done.returncode:
            raise DrillError(f"reload: {done.stderr.strip() or done.stdout.strip()}")
        return time.monotonic() - began

    def processes(self, what: str) -> list[psutil.Process]:
        """what: engine, gateway, controller or haproxy; the eldest first."""
        found = [process for process in self._processes.find() if _is(process, what)]
        return sorted(found, key=lambda process: process.create_time())

    def newest(self, what: str) -> psutil.Process:
        found = self.processes(what)
        if not found:
            raise DrillError(f"no {what} process was found")
        return found[-1]

    def replicas(self) -> dict[str, int]:
        """Of the deployment: running, starting, stopping. Empty when nobody answers."""
        with contextlib.suppress(httpx.HTTPError, KeyError, ValueError, TypeError):
            headers = {"authorization": f"Bearer {self.key}"}
            answer = httpx.get(f"{self.url}/admin/v1/status", headers=headers, timeout=3).json()
            return dict(answer["deployments"][0]["replicas"])
        return {}

    def metric(self, name: str) -> float:
        """Sum of its series, over all gateways that have been."""
        with contextlib.suppress(httpx.HTTPError):
            lines = httpx.get(metrics_page(self.url), timeout=10).text.splitlines()
            return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))
        return 0.0

    def charged(self, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """The ledger's records of these requests, by id."""
        found: dict[str, list[dict[str, Any]]] = {id: [] for id in ids}
        for record in self.ledger():
            if record["id"] in found:
                found[record["id"]].append(record)
        return found


def _is(process: psutil.Process, what: str) -> bool:
    try:
        if what == "haproxy":
            return bool(process.name() == "haproxy")
        return title(process).startswith(_TITLES[what])
    except psutil.Error:
        return False
