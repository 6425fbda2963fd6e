"""A trace on the real product: `clinserve serve` with echo replicas on Ray Serve, scaled by the product's own rule."""

import contextlib
import csv
import json
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from loadtests import probe, runs, scenario
from loadtests.metrics import Row
from loadtests.overhead.servers import Launch, Stack, Target, running
from loadtests.plan import Overrides, Plan
from loadtests.simulator.slots import Echo
from loadtests.traces import Call

_MODEL = "echo"
_LOOK = 0.5


@dataclass(frozen=True)
class Deployment:
    """What is set for both sides. start: seconds that a replica sleeps before it serves; Ray needs some more."""

    echo: Echo
    start: float
    ttft_p95: float
    tpot_p95: float
    maximum: int
    down_after: float

    def config(self) -> str:
        """The product's configuration file."""
        engine = {
            "kind": "echo",
            "slots": self.echo.slots,
            "prefill_rate": self.echo.prefill_rate,
            "inter_token": self.echo.inter_token,
            "start_time": self.start,
        }
        deployment = {
            "name": _MODEL,
            "engine": engine,
            "slo": {"ttft_p95": self.ttft_p95, "tpot_p95": self.tpot_p95},
            "scaling": {"min": 1, "max": self.maximum, "scale_down_after": self.down_after},
        }
        return yaml.safe_dump({"keys": {"demo_key_file": "demo.key"}, "deployments": [deployment]})


@dataclass(frozen=True)
class Seen:
    """rows: one for each request. replicas: (seconds since the begin, serving, in all), looked at twice a second."""

    rows: Sequence[Row]
    replicas: Sequence[tuple[float, int, int]]


def replayed(deployment: Deployment, calls: Sequence[Call], folder: Path) -> Seen:
    """Start the product, replay the calls, stop it. Raises what the harness raises when either side fails."""
    folder.mkdir(parents=True, exist_ok=True)
    trace, config, state = folder / "trace.csv", folder / "config.yaml", folder / "state"
    with trace.open("w", newline="") as file:
        rows = [(f"{call.at:.3f}", call.prompt_tokens, call.answer_tokens) for call in calls]
        csv.writer(file).writerows([("time", "prompt_tokens", "answer_tokens"), *rows])
    config.write_text(deployment.config())
    with running(_stack(config, state), folder / "server.log") as target, _watched(target) as looks:
        server = probe.probe(target.url, target.key, _MODEL)
        overrides = Overrides(measure=calls[-1].at + 0.1, warm_up=0.0, drain=60.0)
        plan = Plan(scenario.load("trace", trace), server, "simulator", overrides)
        measured = runs.run(plan, {"default": target.key}, runs.Fleet(port=_free_port()), folder / "load")
    replicas = [(at - measured.begin, look["running"], sum(look.values())) for at, look in looks]
    return Seen(measured.rows, replicas)


def _stack(config: Path, state: Path) -> Stack:
    port = _free_port()
    command = [sys.executable, "-m", "serving.cli", "serve", "--config", str(config), "--port", str(port)]
    environment = {"CLINSERVE_SERVER__STATE_DIR": str(state), "PYTHONUNBUFFERED": "1"}
    launch = Launch("the product", command, port, "/readyz", environment)
    return Stack([launch], _MODEL, key_file=state / "demo.key")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def _watched(target: Target) -> Iterator[list[tuple[float, dict[str, int]]]]:
    """How many replicas there are, by state, as the product's own status says: (Unix time, by state)."""
    looks: list[tuple[float, dict[str, int]]] = []
    over = threading.Event()

    def look() -> None:
        request = urllib.request.Request(
            f"{target.url}/admin/v1/status", headers={"authorization": f"Bearer {target.key}"}
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while not over.wait(_LOOK):
            with contextlib.suppress(urllib.error.URLError, TimeoutError, ValueError, KeyError):
                with opener.open(request, timeout=5) as response:
                    [deployment] = json.loads(response.read())["deployments"]
                states = {state: int(deployment["replicas"][state]) for state in ("running", "starting", "stopping")}
                looks.append((time.time(), states))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield looks
    finally:
        over.set()
        thread.join(10)
