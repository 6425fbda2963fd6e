"""Which processes belong to a server, what each of them is, and how much CPU time they have used. Owns psutil."""

import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence

import psutil

MARK = "CLINSERVE_BENCH_SERVER"
"""Environment variable that a server is started with. Its daemons inherit it, also those that leave its process tree
and its session, so it finds them where parents and names do not."""

ENGINE = "engine"
ROLES: tuple[tuple[str, re.Pattern[str]], ...] = (  # the first match on the title wins
    (ENGINE, re.compile(r"VLLM::(EngineCore|Worker|DPCoordinator)|ray::(RayWorkerProc|RayWorkerWrapper)")),
    ("ingress", re.compile(r"ray::ServeReplica:[^:]*:(OpenAiIngress|LLMRouter)")),  # Ray Serve LLM's own
    ("gateway", re.compile(r"ray::ServeReplica:gateway[:\s]")),
    ("engine replica", re.compile(r"ray::ServeReplica:")),  # vLLM's API server inside a Ray Serve replica
    ("haproxy", re.compile(r"(\S*/)?haproxy\b")),
    ("api server", re.compile(r"VLLM::APIServer|.*vllm\.entrypoints\.openai\.api_server")),
    ("command", re.compile(r".*\bserving\.cli\b")),
    ("serve control", re.compile(r"ray::(ServeController|SERVE_CONTROLLER|\w*Proxy)")),
    ("ray", re.compile(r"ray::|.*(/ray/|gcs_server|raylet)")),
)


def role(title: str) -> str:
    """Return what a process with this title or command line is."""
    return next((name for name, pattern in ROLES if pattern.match(title)), "other")


def title(process: psutil.Process) -> str:
    """Return the command line, which is where titles are set; the name alone is cut at 15 characters."""
    return " ".join(process.cmdline()).strip() or str(process.name())


def alive(pid: int) -> bool:
    return bool(psutil.pid_exists(pid))


class Processes:
    """The processes of one server: its root, all that carry its mark, and the descendants of both.

    One that was found stays found, whoever its parent is later. known_as: the role of all of them, where their titles
    do not say it.
    """

    def __init__(self, root: int, mark: str = "", known_as: str | None = None) -> None:
        self._root = psutil.Process(root)
        self._mark = mark
        self._known_as = known_as
        self._known: set[psutil.Process] = {self._root}
        self._cpu_of_the_dead: defaultdict[str, float] = defaultdict(float)
        self._last: dict[psutil.Process, tuple[str, float]] = {}

    def find(self) -> set[psutil.Process]:
        """Look again, and return those that live."""
        children: defaultdict[int, list[psutil.Process]] = defaultdict(list)
        alive: set[psutil.Process] = set()
        for process in psutil.process_iter():
            try:
                children[process.ppid()].append(process)
                if process in self._known or self._carries_mark(process):
                    alive.add(process)
            except psutil.Error:
                continue  # gone meanwhile
        todo = list(alive)
        while todo:
            for child in children[todo.pop().pid]:
                if child not in alive:
                    alive.add(child)
                    todo.append(child)
        self._known = alive | {self._root}
        return alive

    def cpu(self) -> dict[str, float]:
        """Return user and system CPU seconds since their start, by role. Those that ended keep their last value."""
        now: dict[psutil.Process, tuple[str, float]] = {}
        for process in self.find():
            try:
                times = process.cpu_times()
                now[process] = self._role(process), times.user + times.system
            except psutil.Error:
                continue
        for process, (name, seconds) in self._last.items():
            if process not in now:
                self._cpu_of_the_dead[name] += seconds
        self._last = now
        total = defaultdict(float, self._cpu_of_the_dead)
        for name, seconds in now.values():
            total[name] += seconds
        return dict(total)

    def rss(self) -> dict[str, float]:
        """Return resident memory in bytes, by role. What processes share, such as libraries, counts in each."""
        total: defaultdict[str, float] = defaultdict(float)
        for process in self.find():
            try:
                total[self._role(process)] += process.memory_info().rss
            except psutil.Error:
                continue
        return dict(total)

    def _role(self, process: psutil.Process) -> str:
        return self._known_as or role(title(process))

    def _carries_mark(self, process: psutil.Process) -> bool:
        if not self._mark or process.pid == os.getpid() or process.create_time() < self._root.create_time():
            return False
        return bool(process.environ().get(MARK) == self._mark)


class Family:
    """The processes of several servers that work together, as if they were one."""

    def __init__(self, members: Sequence[Processes]) -> None:
        self._members = members

    def cpu(self) -> dict[str, float]:
        return _summed(member.cpu() for member in self._members)

    def rss(self) -> dict[str, float]:
        return _summed(member.rss() for member in self._members)


def _summed(parts: Iterable[dict[str, float]]) -> dict[str, float]:
    total: defaultdict[str, float] = defaultdict(float)
    for part in parts:
        for name, value in part.items():
            total[name] += value
    return dict(total)


def end(processes: Iterable[psutil.Process], patience_s: float = 5.0) -> None:
    """Ask these processes to end, and kill those that have not when patience is over."""
    left = list(processes)
    for signal in ("terminate", "kill"):
        for process in left:
            try:
                getattr(process, signal)()
            except psutil.Error:
                continue
        _, left = psutil.wait_procs(left, timeout=patience_s)


class Machine:
    """CPU seconds of the whole machine, to see what others took during a window."""

    def __init__(self) -> None:
        self._times = psutil.cpu_times()
        self._clock = time.perf_counter()

    def used(self) -> tuple[float, float]:
        """Return seconds of CPU used by all processes, and stolen by the hypervisor, since this object was made."""
        now = psutil.cpu_times()
        parts = ("user", "nice", "system", "irq", "softirq")
        used = sum(getattr(now, part, 0.0) - getattr(self._times, part, 0.0) for part in parts)
        return used, getattr(now, "steal", 0.0) - getattr(self._times, "steal", 0.0)
