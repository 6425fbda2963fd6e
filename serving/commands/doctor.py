"""`clinserve doctor`: what this machine can run, and what is missing for the configuration."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil
from rich.console import Console
from rich.markup import escape

from serving import settings as config
from serving.app import load_settings
from serving.backends import build_guard
from serving.commands.doctor_disks import about_disks
from serving.commands.doctor_rows import about_rows
from serving.commands.finding import Finding, State
from serving.commands.serve import CannotStart, check_machine, memory_needed
from serving.deployments import weights
from serving.deployments.leftovers import ServerRuns
from serving.settings import Settings, SettingsError
from serving.weights.files import check_kinds, files_of
from serving.weights.source import BlobSource, FolderSource, HubSource, WeightsError

_PINNED = {"ray": "2.60.0", "vllm": "0.29.0"}


def doctor(path: Path, *, as_json: bool) -> int:
    """Print the findings; 1 if something that the configuration needs is missing."""
    findings = [*about_machine()]
    try:
        settings = load_settings(path)
        findings += [Finding("configuration", "ok", str(path)), *about_configuration(settings)]
    except SettingsError as error:
        findings.append(
            Finding("configuration", "missing", str(error), "mend the file; 'clinserve config check' reads it again")
        )
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _show(findings)
    return int(any(finding.state == "missing" for finding in findings))


def _show(findings: list[Finding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    signs = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "missing": "[red]✗[/]"}
    for finding in findings:
        console.print(f"{signs[finding.state]} {finding.what}: {escape(finding.detail)}")
        if finding.remedy and finding.state != "ok":
            console.print(f"    {escape(finding.remedy)}", style="dim")


def about_machine() -> Iterator[Finding]:
    version = platform.python_version()
    supported = sys.version_info[:2] in ((3, 11), (3, 12))
    yield Finding("Python", "ok" if supported else "missing", version, "use Python 3.11 or 3.12")
    cores, memory = os.cpu_count() or 1, psutil.virtual_memory()
    yield Finding(
        "CPU",
        "ok" if cores >= 2 else "warning",
        f"{cores} cores, {_vector_width()}",
        "two cores are the least for vLLM",
    )
    yield Finding("memory", "ok", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free")
    shared = shutil.disk_usage("/dev/shm") if Path("/dev/shm").exists() else None
    if shared is not None:
        enough = shared.free > 256 * 2**20
        yield Finding(
            "shared memory", "ok" if enough else "warning", f"{shared.free / 2**20:.0f} MiB in /dev/shm",
            "give the container a larger /dev/shm: Ray and vLLM's workers use it",
        )  # fmt: skip
    gpus = _gpus()
    yield Finding("GPU", "ok", "; ".join(gpus) if gpus else "none: deployments need 'device: cpu'")
    for module, wanted in _PINNED.items():
        yield _about_package(module, wanted)


def _about_package(module: str, wanted: str) -> Finding:
    if find_spec(module) is None:
        return Finding(
            module,
            "warning",
            "not installed",
            "make setup installs it; only a gateway with echo or http engines does without",
        )
    for distribution in (module, f"{module}-cpu"):
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        state: Literal["ok", "warning"] = "ok" if version.split("+")[0] == wanted else "warning"
        return Finding(module, state, f"{distribution} {version}", f"{wanted} is the version that was tested")
    return Finding(module, "warning", "installed without a version", f"{wanted} is the version that was tested")


def _vector_width() -> str:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.machine()
    return next(
        (name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2")) if f" {flag} " in flags), platform.machine()
    )


def _gpus() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()] if done.returncode == 0 else []


def about_configuration(settings: Settings) -> Iterator[Finding]:
    need = memory_needed(settings)
    yield Finding("needs", "ok", f"about {need:.1f} GiB of memory for {len(settings.deployments)} deployment(s)")
    if left := [p for _, processes in ServerRuns(settings.server.state_dir).left() for p in processes]:
        detail = f"an earlier server was killed, and {len(left)} of its processes run on"
        yield Finding("leftovers", "warning", detail, "the next start ends them; until then they may have its port")
    try:
        check_machine(settings)
        yield Finding("can start", "ok", f"{settings.server.host}:{settings.server.port} is free and memory suffices")
    except CannotStart as error:
        yield Finding("can start", "missing", str(error))
    yield from about_disks(settings)
    yield from about_rows(settings)
    for guard in settings.guards:
        yield _about_guard(guard)
    for deployment in settings.deployments:
        yield from _about_deployment(settings, deployment)


def _about_guard(guard: config.Guard) -> Finding:
    try:
        build_guard(guard)
    except SettingsError as error:
        return Finding(f"guard {guard.name}", "missing", str(error))
    return Finding(f"guard {guard.name}", "ok", f"{guard.kind}, {guard.mode}")


def _about_deployment(settings: Settings, deployment: config.Deployment) -> Iterator[Finding]:
    engine, name = deployment.engine, f"deployment {deployment.name}"
    if isinstance(engine, config.VllmEngine):
        if find_spec("vllm") is None:
            yield Finding(name, "missing", "vLLM is not installed", "make setup")
        elif engine.device == "gpu" and len(_gpus()) < engine.tensor_parallel_size:
            yield Finding(
                name, "missing", f"needs {engine.tensor_parallel_size} GPU(s), this machine has {len(_gpus())}"
            )
        else:
            yield Finding(name, *_about_weights(settings, deployment))
    elif isinstance(engine, config.HttpEngine):
        absent = bool(engine.key_env) and engine.key_env not in os.environ
        yield Finding(name, "missing" if absent else "ok", engine.url, f"set {engine.key_env}")
    else:
        yield Finding(name, "ok", "echo engine, not a model")


def _about_weights(settings: Settings, deployment: config.Deployment) -> tuple[State, str, str]:
    """State, detail and remedy: whether they are pinned, and here or at least to be had."""
    try:
        wanted, store = weights.wanted_of(deployment), weights.store_of(settings)
        source, here = wanted.source, store.present(wanted) is not None
        if isinstance(source, FolderSource):
            check_kinds(files_of(source.path), allow_pickle=wanted.allow_pickle, of=str(source))
        elsewhere = ""
        if isinstance(source, BlobSource) and not here:
            elsewhere = f"{store.size_of(source) / 1e9:.2f} GB to be downloaded"
    except WeightsError as error:
        return "missing", str(error), "docs/weights.md"
    place = "on this machine" if here else elsewhere or "not on this machine"
    if wanted.digest is not None:
        return "ok", f"{source}, pinned to {wanted.digest[:19]}..., {place}", ""
    if isinstance(source, HubSource) and not source.pinned:
        return "warning", f"{source}, not pinned, {place}", "pin model.revision to a commit, or model.digest"
    return "ok", f"{source}, {'pinned to a commit' if isinstance(source, HubSource) else 'no digest'}, {place}", ""
