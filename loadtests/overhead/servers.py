"""Starts, finds and stops servers: the processes of one peer, in order, and all that they started."""

import contextlib
import http.client
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loadtests.overhead.processes import MARK, Family, Processes, alive, end

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 60.0  # Ray needs 10-20 s to take its cluster down
LOG_TAIL_LINES = 30


class BenchError(Exception):
    """The run cannot go on; the message says why in words for the person who started it."""


@dataclass(frozen=True)
class Launch:
    """One process to start. ready: the path that gives 200 when it can work.

    role: of all its processes, where titles do not tell. files: written before it starts.
    """

    name: str
    command: Sequence[str]
    port: int
    ready: str
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[Path, str] = field(default_factory=dict)
    role: str | None = None


@dataclass(frozen=True)
class Stack:
    """The processes of a peer in the order in which they start; the last one is asked.

    model: its name there. key_file: has the key once it runs. engine_apart: the engine has processes of its own.
    """

    launches: Sequence[Launch]
    model: str
    key_file: Path | None = None
    engine_apart: bool = True


@dataclass(frozen=True)
class Target:
    """A server that answers, and how to meet it. `processes` is None when they are on another machine."""

    url: str
    model: str
    key: str
    processes: Processes | Family | None
    engine_apart: bool = True

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


def read_key(path: Path) -> str:
    """Return the demo tenant's key, which the product writes to a file when it first starts."""
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


@contextlib.contextmanager
def running(stack: Stack, log: Path) -> Iterator[Target]:
    """Start everything in order, yield it once it is ready, and leave nothing of it behind."""
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    with contextlib.ExitStack() as stopping:
        members = [stopping.enter_context(_launched(launch, log)) for launch in stack.launches]
        url = f"http://127.0.0.1:{stack.launches[-1].port}"
        key = read_key(stack.key_file) if stack.key_file else ""
        yield Target(url, stack.model, key, Family(members), stack.engine_apart)


@contextlib.contextmanager
def _launched(launch: Launch, log: Path) -> Iterator[Processes]:
    check_port(launch.port)
    for path, text in launch.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    mark = secrets.token_hex(8)
    with log.open("ab") as output:
        # A session of its own: Ctrl-C in the terminal reaches us alone, and we stop it in order.
        server = subprocess.Popen(
            launch.command,
            cwd=ROOT,
            env={**os.environ, **launch.environment, MARK: mark},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    processes = Processes(server.pid, mark, launch.role)
    try:
        _wait_ready(launch, server, log)
        yield processes
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


def _wait_ready(launch: Launch, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not answers(launch.port, launch.ready):
        if server.poll() is not None:
            raise BenchError(f"{launch.name} ended with status {server.returncode} while starting\n{tail(log)}")
        if time.monotonic() > deadline:
            raise BenchError(f"{launch.name} was not ready after {START_TIMEOUT_S:.0f} s\n{tail(log)}")
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
