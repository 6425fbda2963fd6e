"""A running `clinserve serve` reads its configuration again, and replaces what has changed without dropping an answer.

SIGHUP starts it. `clinserve reload` (reload.py) leaves a note in state_dir/run beforehand that says what else to
replace, and reads there how it went.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving import app
from serving.applications import GATEWAY_APP, engine_application, gateway_application
from serving.commands.progress import Progress
from serving.deployments.cluster import DeployFailed, LocalCluster, Target, engine_target
from serving.deployments.naming import app_name_of
from serving.settings import Deployment, Settings, SettingsError

_FIXED = ("host", "port", "runtime", "state_dir")
GATEWAY = "gateway"


class CannotReload(Exception):
    """One line that says what stays as it is, and why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be replaced: deployments that are new or differ, the gateway; and deployments that go."""

    engines: tuple[Deployment, ...]
    gateway: bool
    gone: tuple[str, ...]

    @property
    def words(self) -> str:
        parts = [*(d.name for d in self.engines), *([GATEWAY] if self.gateway else []), *(f"-{n}" for n in self.gone)]
        return ", ".join(parts) or "nothing has changed"


def plan_of(before: Settings, after: Settings, restart: Collection[str] = ()) -> Plan:
    """restart: deployments, or `gateway`, to replace even if nothing of theirs differs. Raises CannotReload."""
    if fixed := [name for name in _FIXED if getattr(before.server, name) != getattr(after.server, name)]:
        raise CannotReload(f"server.{fixed[0]} only changes when the server is started anew")
    names = {d.name for d in after.replicated}
    if unknown := sorted(set(restart) - names - {GATEWAY}):
        raise CannotReload(f"'{unknown[0]}' has no replicas of its own; there are {', '.join(sorted(names)) or 'none'}")
    old = {d.name: d for d in before.replicated}
    return Plan(
        engines=tuple(d for d in after.replicated if d.name in restart or d != old.get(d.name)),
        gateway=GATEWAY in restart or before != after,
        gone=tuple(name for name in old if name not in names),
    )


@dataclass
class Rollouts:
    """Of one running server. reread: its configuration; raises SettingsError. fetch: weights, ahead of replicas;
    raises CannotReload.
    """

    cluster: LocalCluster
    settings: Settings
    reread: Callable[[], Settings]
    fetch: Callable[[Settings, Progress], None]
    progress: Progress
    _asked: threading.Event = field(default_factory=threading.Event)
    _tokens: dict[str, str] = field(default_factory=dict)
    """Of those that were restarted: what makes Serve take the same configuration for another."""

    @contextlib.contextmanager
    def on_hangup(self) -> Iterator[None]:
        """While this lasts, SIGHUP reloads; but a terminal that is closed ends what runs in it. In the main thread."""
        notes, on_terminal = Notes(self.settings.server.state_dir), sys.stdout.isatty()
        notes.begin()

        def hangup(signum: int, frame: object) -> None:
            if on_terminal and not notes.asked:
                raise KeyboardInterrupt
            self._asked.set()

        signal.signal(signal.SIGHUP, hangup)
        threading.Thread(target=self._serve, args=(notes,), daemon=True).start()
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            notes.end()

    def _serve(self, notes: Notes) -> None:
        while True:
            self._asked.wait()
            self._asked.clear()
            request = notes.taken()
            try:
                outcome = {"ok": True, "message": self.reload(request.get("restart", ()))}
            except Exception as error:  # the server goes on with what it has
                outcome = {"ok": False, "message": _reason(error)}
                self.progress.console.print(f"[red]Not reloaded[/]: {outcome['message']}", highlight=False)
            notes.answer(request, outcome)

    def reload(self, restart: Collection[str] = ()) -> str:
        """Replace what has changed; returns when all of it runs and the old has ended, and says what it was."""
        after = self.reread()
        plan = plan_of(self.settings, after, restart)
        app.check_backends(after)
        app.check_traces(after)
        self.fetch(after, self.progress)
        self._tokens |= {name: secrets.token_hex(4) for name in restart}
        with self.progress.step(f"Reloaded: {plan.words}"):
            self._run(
                after,
                [engine_target(d.name, engine_application(after, d, self._token(d.name))) for d in plan.engines],
            )
            if plan.gateway:  # after the engines: it offers what there is
                self._run(
                    after,
                    [Target(GATEWAY_APP, "/", gateway_application(after, self._token(GATEWAY)))],
                )
            for name in plan.gone:
                self.cluster.remove(app_name_of(name))
        self.settings = after
        return plan.words

    def _run(self, settings: Settings, targets: list[Target]) -> None:
        if targets:
            self.cluster.deploy(targets)
            patience = settings.server.start_timeout + settings.server.drain_timeout  # Serve waits for those that drain
            for _ in self.cluster.watch([target.name for target in targets], timeout=patience):
                pass

    def _token(self, name: str) -> str:
        return self._tokens.get(name, "")


class Notes:
    """What `clinserve reload` and the server leave for each other, in state_dir/run."""

    def __init__(self, state_dir: Path) -> None:
        self._run = state_dir / "run"

    def begin(self) -> None:
        self._run.mkdir(parents=True, exist_ok=True)
        self._write("serve", {"pid": os.getpid()})

    def end(self) -> None:
        self._file("serve").unlink(missing_ok=True)

    def server(self) -> int | None:
        """The process that serves here."""
        pid = self._read("serve").get("pid")
        return pid if isinstance(pid, int) and 1 < pid < 2**31 else None

    def ask(self, restart: Collection[str]) -> str:
        """The note's id."""
        note = secrets.token_hex(8)
        self._write("reload", {"id": note, "restart": list(restart)})
        return note

    @property
    def asked(self) -> bool:
        return self._file("reload").exists()

    def taken(self) -> dict[str, Any]:
        request = self._read("reload")
        self._file("reload").unlink(missing_ok=True)
        return request

    def answer(self, request: Mapping[str, Any], outcome: Mapping[str, Any]) -> None:
        self._write("reloaded", {"id": request.get("id"), **outcome})

    def answered(self, note: str) -> dict[str, Any] | None:
        outcome = self._read("reloaded")
        return outcome if outcome.get("id") == note else None

    def _file(self, name: str) -> Path:
        return self._run / f"{name}.json"

    def _read(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads(self._file(name).read_text())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        new = self._file(f"{name}.new")
        new.write_text(json.dumps(content))
        new.replace(self._file(name))


def _reason(error: Exception) -> str:
    told = (CannotReload, SettingsError, DeployFailed, TimeoutError)
    return str(error) if isinstance(error, told) else f"{type(error).__name__}: {error}"
