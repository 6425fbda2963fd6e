"""`clinserve serve`: start everything on this machine, say how to call it, show one line a request, stop it all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import psutil
from rich.console import Console
from rich.markup import escape

from serving import app, applications, hardening
from serving import settings as config
from serving.commands.progress import Progress
from serving.commands.rollout import CannotReload, Rollouts
from serving.deployments import leftovers, weights
from serving.disk import write_whole
from serving.errors import InvalidRequest
from serving.protocol.addresses import origin_of
from serving.settings import Settings
from serving.tenants.keys import Secret, utcnow
from serving.weights.source import WeightsError

if TYPE_CHECKING:
    from serving.deployments.cluster import LocalCluster

_VLLM_CPU_GIB = 3.5
"""What a small vLLM replica on CPU takes beside its KV cache (measured 3.3)."""
DEMO_TENANT = "demo"
DEFAULT_TENANT = "default"
ADMIN_KEY = "CLINSERVE_ADMIN_KEY"


class CannotStart(Exception):
    """One line that says what is missing and what to do."""


def serve(read: Callable[[], Settings]) -> None:
    """Run until Ctrl-C or SIGTERM. read: the configuration, now and at each reload. Raises CannotStart, SettingsError."""
    progress, settings = Progress(), read()
    hardening.keep_memory_private()
    if ended := leftovers.ServerRuns(settings.server.state_dir).sweep():
        names = ", ".join(sorted(set(ended)))
        progress.console.print(
            f"  An earlier server was killed; {len(ended)} of its processes ran on and have been ended: {names}",
            highlight=False,
        )
    check_machine(settings)
    app.check_backends(settings)
    app.check_traces(settings)
    signal.signal(signal.SIGTERM, _interrupt)
    hardening.private_folder(settings.server.state_dir)
    prepare(settings, progress)
    key = demo_key(settings)
    if (stale := app.metrics_dir(settings)).exists():  # of an earlier run: its processes are gone
        shutil.rmtree(stale)
    app.metrics_dir(settings).mkdir(parents=True)
    if settings.server.runtime == "process":
        _in_one_process(settings, progress, key)
    else:
        _on_ray(settings, progress, key, read)


def check_machine(settings: Settings) -> None:
    """Find out before anything is started what would only fail later, and less clearly. Raises CannotStart."""
    check_address(settings.server.host, settings.server.port)
    need, free = memory_needed(settings), psutil.virtual_memory().available / 2**30
    if free < need:
        raise CannotStart(
            f"too little memory: {free:.1f} GiB are free, about {need:.1f} GiB are needed. "
            "Stop something, or lower VLLM_CPU_KVCACHE_SPACE or replicas."
        )


def check_address(host: str, port: int) -> None:
    """Raises CannotStart where nothing can listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.removeprefix("[").removesuffix("]") or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise CannotStart(
            f"cannot listen on {host if ':' not in host else f'[{host}]'}:{port}: {error.strerror}. "
            "Choose another port, such as PORT=8001 make serve, or --port 8001."
        ) from None


def memory_needed(settings: Settings) -> float:
    """GiB of main memory for Ray, the gateway and the vLLM replicas on CPU, roughly."""
    need = 1.0
    for deployment in settings.deployments:
        engine = deployment.engine
        if isinstance(engine, config.VllmEngine) and engine.device == "cpu":
            need += deployment.most_replicas * (_VLLM_CPU_GIB + float(engine.env.get("VLLM_CPU_KVCACHE_SPACE", "4")))
    return need


def prepare(settings: Settings, progress: Progress) -> None:
    """Register the tenants that the configuration names, and see to it that there is an administrator."""
    with app.open_office(settings) as office:
        named = {DEFAULT_TENANT} | ({DEMO_TENANT} if settings.keys.demo_key_file else set())
        for issuer in settings.identity.issuers:
            named |= {issuer.tenant} if issuer.tenant else set(issuer.tenants.values())
        for tenant in sorted(named):
            office.administration.ensure_tenant(tenant)
        if given := _given_admin_key():
            office.administration.adopt_admin(given)
        elif settings.keys.admin_key_file and (secret := office.administration.bootstrap()):
            file = settings.server.state_dir / settings.keys.admin_key_file
            _keep(secret, file)
            progress.console.print(f"  The first administrator's key is in {file}", highlight=False)


def _given_admin_key() -> Secret | None:
    """From its variable, or the file that VARIABLE_FILE names. Raises CannotStart."""
    if given := os.environ.get(ADMIN_KEY):
        return Secret(given.strip())
    if (file := os.environ.get(f"{ADMIN_KEY}_FILE")) and (path := Path(file)).exists():
        try:
            return Secret(text) if (text := path.read_text(encoding="utf-8").strip()) else None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise CannotStart(f"{ADMIN_KEY}_FILE: {path}: {reason}") from None
    return None


def _keep(secret: Secret, file: Path) -> None:
    """Whole, or it raises CannotStart: what is in it works."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(file, (secret.reveal() + "\n").encode())
    except OSError as error:
        raise CannotStart(f"{file} cannot be written: {error.strerror}. 'clinserve keys create' makes a key.") from None


def demo_key(settings: Settings) -> str | None:
    """The key in `keys.demo_key_file`, made on the first start. None where no such file is configured."""
    if settings.keys.demo_key_file is None:
        return None
    file = settings.server.state_dir / settings.keys.demo_key_file
    keyring = app.build_keyring(settings)
    if file.exists() and (text := _read_key(file)):
        try:
            known = keyring.adopt(DEMO_TENANT, "demo", Secret(text))
        except InvalidRequest:
            raise CannotStart(f"{file} does not hold a key. Delete it: the next start makes a new one.") from None
        if known.status(utcnow()) == "active":
            return text
    _, secret = keyring.mint(DEMO_TENANT, "demo")
    _keep(secret, file)
    return secret.reveal()


def _read_key(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise CannotStart(f"{file} does not hold a key. Delete it: the next start makes a new one.") from None
    except OSError as error:
        raise CannotStart(f"{file} cannot be read: {error.strerror}") from None


def _in_one_process(settings: Settings, progress: Progress, key: str | None) -> None:
    from serving.commands.http_server import server_of

    listens = settings.server
    server = server_of(
        app.process_app(settings),
        host=listens.host,
        port=listens.port,
        connections=listens.connections_per_address,
        keep_alive=listens.keep_alive,
    )
    announcer = threading.Thread(target=_announce_when_ready, args=(settings, progress, key), daemon=True)
    announcer.start()
    server.run()


def _announce_when_ready(settings: Settings, progress: Progress, key: str | None) -> None:
    _wait_until_ready(settings)
    announce(settings, progress, key)
    follow(app.request_log_file(settings), progress.console)


def _logging_to_file(settings: Settings) -> Settings:
    """A replica's standard output is one of Ray's log files. What is meant is ours: through the file, as it is."""
    if settings.telemetry.request_log != "stdout":
        return settings
    telemetry = settings.telemetry.model_copy(update={"request_log": "file"})
    return settings.model_copy(update={"telemetry": telemetry})


def _on_ray(settings: Settings, progress: Progress, key: str | None, read: Callable[[], Settings]) -> None:
    from serving.deployments.cluster import DeployFailed, LocalCluster, Target, engine_target

    as_json = settings.telemetry.request_log == "stdout"
    settings = _logging_to_file(settings)
    fetch_weights(settings, progress)
    cluster = LocalCluster(
        settings.server.state_dir,
        host=settings.server.host,
        port=settings.server.port,
        max_stream=settings.server.max_stream,
        connections=settings.server.connections_per_address,
    )
    try:
        with progress.step("Started Ray"):
            cluster.start_ray(num_cpus=_cpus_reserved(settings))
        with progress.step("Started Ray Serve and HAProxy"):
            cluster.start_serve()
        signal.signal(signal.SIGTERM, _interrupt)  # again: Ray has put its own, which ends us and leaves HAProxy behind
        targets = [engine_target(d.name, applications.engine_application(settings, d)) for d in settings.replicated]
        targets.append(Target(applications.GATEWAY_APP, "/", applications.gateway_application(settings)))
        with progress.step("Handed over the deployments"):
            cluster.deploy(targets)
        with progress.step("All deployments run"):
            for name in cluster.watch([t.name for t in targets], timeout=settings.server.start_timeout):
                progress.done(f"{name} is up, after")
        with progress.step("Ready to serve"):
            _wait_until_ready(settings)
        announce(settings, progress, key, logs=cluster.logs)
        rollouts = Rollouts(cluster, settings, lambda: _logging_to_file(read()), _refetch_weights, progress)
        with rollouts.on_hangup():
            follow(app.request_log_file(settings), progress.console, as_json=as_json)
    except (DeployFailed, TimeoutError) as error:
        raise CannotStart(f"{error}. The logs are in {cluster.logs}.") from None
    except KeyboardInterrupt:
        pass
    finally:
        _stop(cluster, settings, progress)


def fetch_weights(settings: Settings, progress: Progress) -> None:
    """Before anything starts, so that a mistake is told at once and a download is seen; replicas find them here."""
    for deployment in settings.deployments:
        if isinstance(deployment.engine, config.VllmEngine):
            try:
                with progress.step(f"Weights of {deployment.name}") as say:
                    weights.ready(settings, deployment, say)
            except WeightsError as error:
                raise CannotStart(f"{deployment.name}: {error}") from None


def _refetch_weights(settings: Settings, progress: Progress) -> None:
    try:
        fetch_weights(settings, progress)
    except CannotStart as error:
        raise CannotReload(str(error)) from None


def _stop(cluster: LocalCluster, settings: Settings, progress: Progress) -> None:
    """Let running answers end and the gateway write its books; a second Ctrl-C does not wait for them."""
    try:
        with progress.step("Answers ended, books written"):
            cluster.drain(
                applications.GATEWAY_APP, answers=settings.server.stop_timeout, books=applications.BOOKS_SECONDS
            )
    except KeyboardInterrupt:
        pass
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with progress.step("Stopped"):
        cluster.stop()


def _cpus_reserved(settings: Settings) -> float:
    engines = 0.0
    for deployment in settings.replicated:
        assert not isinstance(deployment.engine, config.HttpEngine)
        engines += deployment.most_replicas * deployment.engine.num_cpus
    return engines * 2 + settings.gateway.replicas * settings.gateway.num_cpus


def _wait_until_ready(settings: Settings) -> None:
    url, end = f"{base_url(settings)}/readyz", time.monotonic() + settings.server.start_timeout
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                if response.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.2)
    raise TimeoutError("the gateway did not become ready")


def base_url(settings: Settings) -> str:
    return origin_of(settings.server.host, settings.server.port)


def announce(settings: Settings, progress: Progress, key: str | None, *, logs: Path | None = None) -> None:
    """The ready line and how to call it, to paste."""
    url, console = base_url(settings), progress.console
    shown = key or "YOUR_KEY"
    first = settings.deployments[0]
    progress.done("[bold]Ready[/], after")
    console.print(f"\n  URL    {url}/v1\n  Key    {shown}" + ("" if key else "   (clinserve keys create makes one)"))
    if settings.console.enabled:
        console.print(f"  Web    {url}/console")
    for deployment in settings.deployments:
        notice = f"  [yellow]{escape(deployment.model.notice)}[/]" if deployment.model.notice else ""
        console.print(f"  Model  {deployment.name}{notice}")
    if logs is not None:
        console.print(f"  Logs   {logs}")
    body = json.dumps({"model": first.name, "messages": [{"role": "user", "content": QUESTION}]})
    console.print("\n[dim]# curl[/]")
    console.print(
        f"curl -s {url}/v1/chat/completions -H 'Authorization: Bearer {shown}' "
        f"-H 'Content-Type: application/json' -d '{body}'",
        markup=False,
    )
    console.print("\n[dim]# Python, with the openai package (here: .venv/bin/python)[/]")
    console.print(PYTHON.format(url=url, key=shown, model=first.name, question=QUESTION), markup=False)
    console.print("[dim]Ctrl-C stops everything. One line a request:[/]")


QUESTION = (
    "Note: 67-year-old woman with hypertension. Medications: lisinopril 10 mg daily. Allergies: penicillin (rash). "
    "Which medications does the patient take?"
)
PYTHON = """\
from openai import OpenAI
client = OpenAI(base_url="{url}/v1", api_key="{key}")
messages = [{{"role": "user", "content": "{question}"}}]
for chunk in client.chat.completions.create(model="{model}", messages=messages, stream=True): print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="", flush=True)
"""


def follow(file: Path, console: Console, *, as_json: bool = False) -> None:
    """Print each line that is added to the request log, readable or as it is, until interrupted."""
    for line in added_to(file):
        try:
            console.print(line.rstrip() if as_json else readable(json.loads(line)), markup=False)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue  # a line that a full disk has cut


def added_to(file: Path, *, pause: float = 0.2) -> Iterator[str]:
    """Each line that is added to a file from now on, also after it was put aside and begun anew."""
    while not file.exists():
        time.sleep(pause)
    lines = file.open(encoding="utf-8", errors="replace")
    lines.seek(0, os.SEEK_END)
    try:
        while True:
            put_aside = not file.exists() or file.stat().st_ino != os.fstat(lines.fileno()).st_ino
            while (line := lines.readline()).endswith("\n"):
                yield line
            if put_aside and file.exists():
                lines.close()
                lines = file.open(encoding="utf-8", errors="replace")
            else:
                time.sleep(pause)
    finally:
        lines.close()


def readable(line: dict[str, object]) -> str:
    """A log line for a person: time, status, route, deployment, tokens in and out, TTFT, duration, outcome, id."""
    if line.get("event") != "request":
        return f"{str(line['time'])[11:19]} {line.get('event')} {line.get('error', '')} {line.get('request_id', '')}"
    parts = [str(line["time"])[11:19], str(line["status"]), str(line["method"]), str(line["route"])]
    if line["deployment"]:
        parts += [str(line["deployment"]), f"{line['prompt_tokens']}+{line['completion_tokens']} tokens"]
    if line["ttft_ms"] is not None:
        parts.append(f"ttft {line['ttft_ms']} ms")
    parts.append(f"{line['duration_ms']} ms")
    if line["outcome"] != "ok":
        parts.append(str(line["outcome"]))
    return "  ".join([*parts, str(line["request_id"])])


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
