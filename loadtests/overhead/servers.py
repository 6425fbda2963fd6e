"""Starts, finds and stops the two servers: bare vLLM with the product's engine settings, and the product itself."""

import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml

from loadtests.overhead.processes import MARK, Processes, alive, end

Side = Literal["bare", "product"]

ROOT = Path(__file__).resolve().parents[2]
READY_PATH: Mapping[Side, str] = {"bare": "/health", "product": "/readyz"}
START_TIMEOUT_S = 240.0
STOP_TIMEOUT_S = 60.0  # Ray needs 10-20 s to take its cluster down
LOG_TAIL_LINES = 30


class BenchError(Exception):
    """The run cannot go on; the message says why in words for the person who started it."""


@dataclass(frozen=True)
class Engine:
    """The engine of the first deployment in a configuration file: what both sides are to run."""

    name: str
    model: str
    arguments: Mapping[str, Any]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Target:
    """A server that answers, and how to meet it. `processes` is None when they are on another machine."""

    url: str
    model: str
    key: str
    processes: Processes | None

    @property
    def address(self) -> dict[str, Any]:
        """Return the fields of a client plan that say where and as whom."""
        parts = urlsplit(self.url)
        tls = parts.scheme == "https"
        return {
            "host": parts.hostname or "127.0.0.1",
            "port": parts.port or (443 if tls else 80),
            "path": f"{parts.path.rstrip('/').removesuffix('/v1')}/v1/chat/completions",
            "tls": tls,
            "model": self.model,
            "key": self.key,
        }


def read_engine(config: Path) -> Engine:
    """Return what the configuration file says about its first deployment's engine."""
    try:
        deployment = yaml.safe_load(config.read_text())["deployments"][0]
        engine = deployment["engine"]
        found = Engine(
            name=deployment["name"],
            model=_located(deployment["model"]["source"], config),
            arguments=engine.get("args") or {},
            environment={name: str(value) for name, value in (engine.get("env") or {}).items()},
        )
    except OSError as error:
        raise BenchError(f"cannot read the configuration {config}: {error.strerror}") from error
    except (KeyError, IndexError, TypeError, yaml.YAMLError) as error:
        raise BenchError(f"{config} does not describe a vLLM deployment: {error!r}") from error
    if engine.get("kind", "vllm") != "vllm":
        raise BenchError(f"the first deployment in {config} has the engine {engine['kind']!r}, which has no bare side")
    return found


def _located(source: str, config: Path) -> str:
    """A directory is relative to the configuration file, as for the product; anything else is a Hugging Face id."""
    directory = (config.parent / source).resolve()
    return str(directory) if directory.is_dir() else source


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """Return vLLM's engine arguments, named as in Python, as its command line wants them."""
    words: list[str] = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        match value:
            case None:
                continue
            case bool():
                words += [f"--{flag}" if value else f"--no-{flag}"]
            case dict():
                words += [f"--{flag}", json.dumps(value)]
            case list():
                words += [f"--{flag}", *(json.dumps(item) if isinstance(item, dict) else str(item) for item in value)]
            case _:
                words += [f"--{flag}", str(value)]
    return words


def bare_command(engine: Engine, port: int) -> list[str]:
    """Return the command for vLLM's own server: `vllm serve` would be the same, but fails with the CPU package."""
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", engine.model]
    command += ["--served-model-name", engine.name, "--host", "127.0.0.1", "--port", str(port)]
    return [*command, *flags(engine.arguments), "--disable-uvicorn-access-log"]  # as fast as it can be


def product_command(config: Path, port: int) -> list[str]:
    return [sys.executable, "-m", "serving.cli", "serve", "--config", str(config), "--port", str(port)]


def demo_key() -> str:
    """Return the demo tenant's key, which the product writes to a file when it first starts."""
    path = Path(os.environ.get("CLINSERVE_DEMO_KEY_FILE") or ROOT / ".clinserve" / "demo.key")
    try:
        return path.read_text().strip()
    except OSError as error:
        raise BenchError(f"no key for the product in {path}: {error.strerror}") from error


def check_port(port: int) -> None:
    """Raise unless this port can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise BenchError(f"port {port} is in use; choose another with --port") from error


def check_model(engine: Engine) -> None:
    """Raise when the model is a path and is not there."""
    if engine.model.startswith((".", "/")) and not (Path(engine.model) / "config.json").is_file():
        raise BenchError(f"no model in {engine.model}")


@contextlib.contextmanager
def running(side: Side, engine: Engine, config: Path, port: int, log: Path) -> Iterator[Target]:
    """Start a server, yield it once it is ready, and leave nothing of it behind."""
    check_port(port)
    command = bare_command(engine, port) if side == "bare" else product_command(config, port)
    mark = secrets.token_hex(8)
    environment = {**os.environ, **(engine.environment if side == "bare" else {}), MARK: mark}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        # A session of its own: Ctrl-C in the terminal reaches us alone, and we stop it in order.
        server = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    processes = Processes(server.pid, mark)
    try:
        _wait_ready(side, port, server, log)
        yield Target(f"http://127.0.0.1:{port}", engine.name, demo_key() if side == "product" else "", processes)
    finally:
        _stop(server, processes)


def watch(pid: int) -> Processes:
    """Return the processes under a root that runs already."""
    if not alive(pid):
        raise BenchError(f"no process has the id {pid}")
    return Processes(pid)


def answers(port: int, path: str) -> bool:
    """Return whether a GET of this path on this machine gives 200 now."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)  # urllib would ask a proxy
    try:
        connection.request("GET", path)
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _wait_ready(side: Side, port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not answers(port, READY_PATH[side]):
        if server.poll() is not None:
            raise BenchError(f"the {side} server ended with status {server.returncode} while starting\n{tail(log)}")
        if time.monotonic() > deadline:
            raise BenchError(f"the {side} server was not ready after {START_TIMEOUT_S:.0f} s\n{tail(log)}")
        time.sleep(0.5)


def _stop(server: subprocess.Popen[bytes], processes: Processes) -> None:
    family = processes.find()  # before the root goes: children without a parent are harder to find
    try:
        if server.poll() is None:
            server.send_signal(signal.SIGINT)
            server.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pass  # it had its time
    finally:  # also on a second Ctrl-C
        end(family | processes.find())
        server.wait(10)


def tail(log: Path) -> str:
    """Return the last lines of a server's log, under a line that says where it is."""
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join([f"--- end of {log}", *lines[-LOG_TAIL_LINES:]])
