"""Ray and Ray Serve on this machine: start, deploy, watch, stop. On Kubernetes, KubeRay does it."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from serving import hardening
from serving.deployments import environment
from serving.deployments.leftovers import ServerRuns
from serving.deployments.naming import ENGINE_PREFIX, app_name_of

if TYPE_CHECKING:
    from ray.serve import Application

_STOP_SECONDS = 15.0
_LOOPBACK = "127.0.0.1"
"""Where all of it listens but HAProxy: replicas and Ray's own ports are ways around it."""
_OBJECT_STORE_BYTES = 100 * 2**20  # tokens do not pass through it


class DeployFailed(Exception):
    """An application cannot run. The message is Ray Serve's, shortened to the error itself."""


@dataclass(frozen=True, slots=True)
class Target:
    """An application and where it is mounted."""

    name: str
    route_prefix: str
    application: Application


def engine_target(deployment: str, application: Application) -> Target:
    return Target(app_name_of(deployment), ENGINE_PREFIX + deployment, application)


class LocalCluster:
    """A Ray of our own on this machine; never an already running one, whatever RAY_ADDRESS says."""

    def __init__(self, state_dir: Path, *, host: str, port: int, max_stream: float, connections: int) -> None:
        """connections: of one address at a time; 0 for any number."""
        self._port = port
        # Not in state_dir: HAProxy's admin socket must have a short path.
        self._run_dir = Path(tempfile.mkdtemp(prefix="clinserve-"))
        self._runs = ServerRuns(state_dir)
        self._run = self._runs.begin(self._run_dir)
        # Ray's own place, /tmp/ray, is everybody's, and its logs and sockets with it. Sockets need a short path, which
        # state_dir may not have: so it is reached through the run's folder, which is this user's alone.
        # Inside a closed folder: Ray opens its own to everybody, whatever the umask.
        self._sessions = hardening.private_folder(state_dir.absolute() / "ray") / "sessions"
        self._sessions.mkdir(exist_ok=True)
        _only_latest(self._sessions)
        self._ray_dir = self._run_dir / "ray"
        self._ray_dir.symlink_to(self._sessions)
        # Likewise its token, which it keeps for all to read, and for all clusters of a user.
        token = hardening.private_token(self._run_dir / "ray-token")
        environment.apply({"RAY_AUTH_TOKEN_PATH": str(token)})
        self.logs: Path | None = None
        """Where Ray and the replicas log, once Ray runs."""
        environment.apply(
            environment.serve_environment(
                max_stream=max_stream, run_dir=self._run_dir, host=host, connections=connections
            )
        )

    def start_ray(self, *, num_cpus: float) -> None:
        import ray

        logging.getLogger("ray.serve").setLevel(logging.WARNING)  # our progress says the same in fewer words
        context = ray.init(
            address="local",
            _temp_dir=str(self._ray_dir),
            num_cpus=max(os.cpu_count() or 1, int(num_cpus + 0.999)),
            object_store_memory=_OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
        )
        session = Path(context.address_info["session_dir"])
        self.logs = self._sessions / session.name / "logs"
        self._runs.keep(replace(self._run, folders=(str(session), str(session.resolve()))))

    def start_serve(self) -> None:
        from ray import serve

        serve.start(
            http_options={"host": _LOOPBACK, "port": self._port},
            logging_config={"log_level": "WARNING", "enable_access_log": False},
        )

    def deploy(self, targets: Sequence[Target]) -> None:
        """Hand over the applications, all at once; `watch` tells when they run."""
        from ray import serve
        from ray.serve.api import RunTarget

        serve.run_many(
            [RunTarget(t.application, name=t.name, route_prefix=t.route_prefix) for t in targets],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )

    def watch(self, names: Iterable[str], *, timeout: float) -> Iterator[str]:
        """Yield each application's name when it runs. Raises DeployFailed, TimeoutError."""
        from ray import serve

        waiting, end = set(names), time.monotonic() + timeout
        while waiting:
            applications = serve.status().applications
            for name in sorted(waiting & applications.keys()):
                application = applications[name]
                if application.status == "RUNNING":
                    waiting.discard(name)
                    yield name
                elif application.status in ("DEPLOY_FAILED", "UNHEALTHY"):
                    messages = [application.message, *(d.message for d in application.deployments.values())]
                    raise DeployFailed(f"{name}: {reason_in(chr(10).join(messages))}")
            if waiting and time.monotonic() > end:
                raise TimeoutError(f"{', '.join(sorted(waiting))} did not start in {timeout:.0f} s")
            time.sleep(0.25)

    def remove(self, application: str) -> None:
        """Take an application away; its replicas finish what they answer."""
        from ray import serve

        serve.delete(application, _blocking=False)

    def drain(self, application: str, *, answers: float, books: float) -> None:
        """Stop one application in order: no new requests, then what runs in it ends, then it closes what it opened.

        answers, books: seconds. Answers that take longer are cut at the engine, so that each still ends with an error
        event and is charged; the application then has `books` seconds to write what it holds.
        """
        from ray import serve

        ender = threading.Thread(target=lambda: _quietly(lambda: serve.delete(application)), daemon=True)
        ender.start()
        ender.join(answers)
        if ender.is_alive():
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if _answers(process):
                        process.kill()
            ender.join(books)

    def stop(self) -> None:
        """Stop every process that was started.

        Ray is shut down whole, without serve.shutdown() first: that waits for replicas that nobody will ask again.
        Engines and HAProxy are children of Ray's workers and outlive them, so the tree is swept.
        """
        family = psutil.Process().children(recursive=True)
        ender = threading.Thread(target=_shut_down, daemon=True)
        ender.start()
        ender.join(_STOP_SECONDS)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=5)
        shutil.rmtree(self._run_dir, ignore_errors=True)
        self._runs.end(self._run)


def _only_latest(folder: Path, keep: int = 2) -> None:
    """Remove what all but the last runs have left: each has logs of some megabytes."""
    sessions = sorted(path for path in folder.glob("session_*") if path.is_dir() and not path.is_symlink())
    for session in sessions[:-keep]:
        shutil.rmtree(session, ignore_errors=True)


def _answers(process: psutil.Process) -> bool:
    """vLLM's engine, or an echo engine's replica."""
    return process.name().startswith("VLLM") or "ServeReplica:engine-" in " ".join(process.cmdline())


def _shut_down() -> None:
    import ray

    _quietly(ray.shutdown)


def _quietly(end: Callable[[], None]) -> None:
    with contextlib.suppress(Exception):  # whatever fails here, the processes are killed next
        end()


def reason_in(text: str) -> str:
    """The innermost error of the traceback that Serve reports, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [number for number, line in enumerate(lines) if re.match(r"[\w.]*(Error|Exception): ", line)]
    return " ".join(lines[errors[-1] :][:3]) if errors else " ".join(lines[-1:]) or "no reason given"
