"""What a server that was killed has left on this machine. Ray's own processes end with it, but HAProxy, which is a
child of one of them, keeps the port, and vLLM's engines may keep their GPUs.

Each server keeps a record of itself in its state directory while it runs. What it starts is known by an id in its
environment, or, where a process has written its title over that, by its output, which goes into the server's folders,
or, if the title is one of Ray's, by any file there that it has open. Nothing else is touched, whatever it is called.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from serving.disk import write_whole

RUN = "CLINSERVE_RUN"
"""The environment's, of everything that a server starts."""
_WAIT_SECONDS = 10.0
_OUTPUTS = ("1", "2")


@dataclass(frozen=True, slots=True)
class ServerRun:
    """A server and what it started. started: of its process, in seconds since 1970. folders: its own, for processes to
    write their output to; scratch: the one that goes with it.
    """

    id: str
    pid: int
    started: float
    scratch: str
    folders: tuple[str, ...] = ()

    @property
    def goes_on(self) -> bool:
        try:
            return bool(abs(psutil.Process(self.pid).create_time() - self.started) < 1.0)
        except psutil.NoSuchProcess:
            return False

    def processes(self) -> list[psutil.Process]:
        """What it has started, wherever that is now in the tree of processes."""
        return [process for process in psutil.process_iter() if self._has_started(process)]

    def _has_started(self, process: psutil.Process) -> bool:
        try:
            if process.pid == os.getpid() or process.uids().real != os.getuid():
                return False
            if process.environ().get(RUN) == self.id:
                return True
            opened = {file.name: str(file.readlink()) for file in Path(f"/proc/{process.pid}/fd").iterdir()}
            title = process.cmdline()[:1]
        except (psutil.Error, OSError):
            return False
        # Whoever reads a log has it open too, but does not write its output there, nor is it called as Ray's are.
        rays = bool(title) and title[0].startswith("ray::")
        files = [file for number, file in opened.items() if rays or number in _OUTPUTS]
        return any(file.startswith(f"{folder}/") for file in files for folder in (self.scratch, *self.folders))


class ServerRuns:
    """The records of servers that use a state directory. One that ends in order takes its own away."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "run" / "servers"

    def begin(self, scratch: Path) -> ServerRun:
        """A record of this process; what it starts from now on has the id in its environment."""
        run = ServerRun(secrets.token_hex(16), os.getpid(), psutil.Process().create_time(), str(scratch))
        os.environ[RUN] = run.id
        self.keep(run)
        return run

    def keep(self, run: ServerRun) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(self._file(run), json.dumps(asdict(run)).encode())

    def end(self, run: ServerRun) -> None:
        self._file(run).unlink(missing_ok=True)

    def left(self) -> Iterator[tuple[ServerRun, Sequence[psutil.Process]]]:
        """Servers that are gone without a word, and what they have left."""
        for file in sorted(self._folder.glob("*.json")):
            try:
                told = json.loads(file.read_text())
                run = ServerRun(**told | {"folders": tuple(told["folders"])})
            except (OSError, ValueError, TypeError, KeyError):
                continue  # not ours, or half a record: nothing is known of it
            if file == self._file(run) and not run.goes_on:
                yield run, run.processes()

    def sweep(self) -> list[str]:
        """End what is left of servers that are gone. The names of the processes that were ended."""
        ended: list[str] = []
        for run, processes in list(self.left()):
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    ended.append(process.name())
                    process.kill()  # it is the same one: psutil compares when it was started
            psutil.wait_procs(processes, timeout=_WAIT_SECONDS)
            shutil.rmtree(run.scratch, ignore_errors=True)
            self.end(run)
        return ended

    def _file(self, run: ServerRun) -> Path:
        return self._folder / f"{run.id}.json"
