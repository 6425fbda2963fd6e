"""Runs a plan: starts Locust with it, waits, reads what was measured. Each run has a folder of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from loadtests import measured
from loadtests.measured import Measured
from loadtests.plan import KEYS, Plan

ROOT = Path(__file__).resolve().parents[1]
LOCUSTFILE = Path(__file__).with_name("locustfile.py")
TAIL_LINES = 15
PATIENCE_S = 300.0
"""Beyond the plan's own time: until workers are there, and until they are gone."""


class RunError(Exception):
    """Locust did not come to an end; the message says what it said."""


@dataclass(frozen=True)
class Fleet:
    """How many load generators: here, or `remote` on other machines (`python -m loadtests worker` starts them)."""

    processes: int = 1
    remote: int = 0
    port: int = 5557

    @property
    def workers(self) -> int:
        return self.remote or self.processes

    def words(self) -> list[str]:
        where = ["--master-bind-port", str(self.port)]
        if self.remote:
            return ["--master", "--expect-workers", str(self.remote), *where]
        here = ["--processes", str(self.processes), "--master-bind-host", "127.0.0.1"]
        return [*here, *where, "--master-port", str(self.port)]


def run(plan: Plan, keys: Mapping[str, str], fleet: Fleet, folder: Path, metrics_url: str = "") -> Measured:
    """Drive the plan; progress goes to stderr. Raises RunError, or KeyboardInterrupt once Locust has stopped."""
    folder.mkdir(parents=True, exist_ok=True)
    plan_file, log = folder / "plan.json", folder / "locust.log"
    plan_file.write_text(json.dumps(plan.packed()))
    (folder / measured.FILE).unlink(missing_ok=True)
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary", *fleet.words()]
    command += ["--users", str(fleet.workers), "--spawn-rate", str(fleet.workers), "--plan", str(plan_file)]
    # Without its log set-up Locust prints no table of its own, and warnings alone go to stderr.
    command += ["--host", plan.server.base, "--skip-log-setup"]
    command += ["--metrics-url", metrics_url] if metrics_url else []
    with log.open("wb") as said:
        locust = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(keys),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,  # progress; our own stdout begins with the verdict
            stderr=said,
            start_new_session=True,  # Ctrl-C reaches us alone, and we stop it with all its workers
        )
    try:
        locust.wait(plan.resolved().window.until + PATIENCE_S)
    except subprocess.TimeoutExpired as error:
        raise RunError(f"Locust did not end; see {log}") from error
    finally:
        if locust.poll() is None:
            stop(locust)
    if locust.returncode or not (folder / measured.FILE).exists():
        lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        raise RunError("\n".join([f"Locust ended with status {locust.returncode}; the end of {log}:", *lines]))
    return Measured.read(folder)


def work(master: str, port: int, keys: Mapping[str, str], processes: int) -> int:
    """Be load generators for a master elsewhere, until it has had enough of us."""
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--worker", "--processes", str(processes)]
    command += ["--master-host", master, "--master-port", str(port), "--loglevel", "WARNING"]
    return subprocess.call(command, cwd=ROOT, env=environment(keys))


def environment(keys: Mapping[str, str]) -> dict[str, str]:
    """Locust's: with the keys, which so are in no command line."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {KEYS: json.dumps(dict(keys)), "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def stop(locust: "subprocess.Popen[bytes]") -> None:
    """End it and its workers: first politely."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(locust.pid, number)
            locust.wait(5)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def new_folder(base: Path, scenario: str) -> Path:
    """Where one run's results go."""
    return base / f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(scenario).stem}"
