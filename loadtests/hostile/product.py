"""The product under attack: started as `make serve` does, with a bystander's key and an attacker's, and looked at."""

import contextlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import httpx
import psutil
import yaml

from loadtests.batches.server import ROOT, DrillError, Server
from loadtests.overhead.processes import role, title

DEMO = ROOT / "deploy/configs/demo.yaml"
MODEL = "clinical-demo"
LASTING = ("gateway", "engine", "engine replica", "serve control", "haproxy")
"""Roles of processes that an attack must not replace."""
_METRICS_ABOVE = 1464
"""From the API's port to that of metrics."""
_REFRESH_S = 3.0
"""Until gateways have read what was set."""


@dataclass(frozen=True)
class Vitals:
    """The product at one moment. processes: role by process. rss: bytes by role. lag: counts of the gateways' event
    loop lag by bucket, of its metric clinserve_event_loop_lag_seconds. in_flight: requests. files: open, by role.
    """

    processes: Mapping[psutil.Process, str]
    rss: Mapping[str, int]
    files: Mapping[str, int]
    lag: Mapping[float, float]
    in_flight: float
    stored: int

    def lasting(self) -> dict[psutil.Process, str]:
        """Of HAProxy the newest: one that was replaced at the start lasts as long as its connections."""
        proxies = [process for process, name in self.processes.items() if name == "haproxy"]
        old = set(sorted(proxies, key=lambda process: process.create_time())[:-1])
        return {process: name for process, name in self.processes.items() if name in LASTING and process not in old}


class HostileServer(Server):
    """folder: for its state, its configuration and its log. engines: `model` for the demo on vLLM, or `echo`."""

    def __init__(self, folder: Path, *, engines: str = "model") -> None:
        self.folder = folder
        file = folder / "hostile.yaml"
        file.write_text(yaml.safe_dump(configuration(engines, folder)))
        super().__init__(file, folder / "state", folder / "server.log")
        self.keys: dict[str, str] = {}
        self.foreign = ""

    def __enter__(self) -> Self:
        try:
            self.start()
            self._prepare()
        except BaseException:
            self.stop()
            raise
        return self

    def _prepare(self) -> None:
        """The tenants, their keys, and a file of the bystander's that the attacker would like to have."""
        administrator = (self.folder / "state" / "admin.key").read_text().strip()
        for tenant in ("ward", "mallory"):
            self._told(administrator, "POST", "tenants", {"id": tenant, "name": tenant})
            self._told(administrator, "PATCH", f"tenants/{tenant}", {"keep_responses": 3600})
            self.keys[tenant] = self._key(administrator, tenant)
        self.keys["bound"] = self._key(administrator, "mallory", networks=["10.99.0.0/16"])
        form: Any = {"file": ("note.jsonl", b'{"custom_id": "a"}\n'), "purpose": (None, "batch")}
        headers = {"authorization": f"Bearer {self.keys['ward']}"}
        made = httpx.post(f"{self.url}/v1/files", files=form, headers=headers, timeout=30)
        self.foreign = str(made.json().get("id", "file-0"))
        time.sleep(_REFRESH_S)

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        return int(self._port)

    @property
    def side_ports(self) -> tuple[int, ...]:
        """All that its processes listen on, but for the API's own."""
        found = set()
        for process in self._processes.find():
            with contextlib.suppress(psutil.Error):
                found |= {c.laddr.port for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        return tuple(sorted(found - {self._port}))

    def vitals(self) -> Vitals:
        processes: dict[psutil.Process, str] = {}
        rss: dict[str, int] = {}
        files: dict[str, int] = {}
        for process in self._processes.find():
            with contextlib.suppress(psutil.Error):
                name = role(title(process))
                processes[process] = name
                rss[name] = rss.get(name, 0) + process.memory_info().rss
                files[name] = files.get(name, 0) + process.num_fds()
        page = self.metrics()
        lag = {float(le): count for le, count in _series(page, "clinserve_event_loop_lag_seconds_bucket", "le").items()}
        in_flight = sum(_series(page, "clinserve_requests_in_flight", "deployment").values())
        return Vitals(processes, rss, files, lag, in_flight, self.stored())

    def stored(self) -> int:
        """Bytes of files that callers have sent."""
        folder = self.folder / "state" / "files"
        with contextlib.suppress(OSError):
            return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        return 0

    def metrics(self) -> str:
        """The scrape, from the listener that is for it, or from the API with an administrator's key."""
        key, why = (self.folder / "state" / "admin.key").read_text().strip(), ""
        for url in (f"http://127.0.0.1:{self._port + _METRICS_ABOVE}", self.url) * 2:
            try:
                answer = httpx.get(f"{url}/metrics", headers={"authorization": f"Bearer {key}"}, timeout=20)
            except httpx.HTTPError as error:
                why += f" {type(error).__name__}"
                continue
            if answer.status_code == 200:
                return answer.text
            why += f" {answer.status_code}"
        raise DrillError(f"the product's metrics could not be read:{why}")

    def connections_from(self, source: str) -> int:
        """Connections of this address that the API still has open."""
        here = [c for c in psutil.net_connections("tcp") if c.laddr.port == self._port and c.raddr]
        return sum(c.raddr.ip == source and c.status in (psutil.CONN_ESTABLISHED, psutil.CONN_CLOSE_WAIT) for c in here)

    def logs_with(self, text: str) -> list[str]:
        """Names of its logs, Ray's included, that hold this text."""
        roots = [self.folder / "state", self.folder, *_ray_logs(self._processes.find())]
        found = {
            file.name
            for root in roots
            for file in root.rglob("*")
            if file.is_file() and file.suffix in (".log", ".out", ".err", ".jsonl", ".txt") and _holds(file, text)
        }
        return sorted(found)

    def _key(self, administrator: str, tenant: str, **more: Any) -> str:
        made = self._told(administrator, "POST", "keys", {"tenant": tenant, "name": secrets.token_hex(4)} | more)
        return str(made["key"])

    def _told(self, administrator: str, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {administrator}"}
        answer = httpx.request(method, f"{self.url}/admin/v1/{path}", json=body, headers=headers, timeout=30)
        if answer.is_error:
            raise DrillError(f"{method} {path}: {answer.text}")
        made: dict[str, Any] = answer.json()
        return made


def configuration(engines: str, folder: Path) -> dict[str, Any]:
    """The demo's, of which only the engine may differ."""
    tree: dict[str, Any] = yaml.safe_load(DEMO.read_text())
    (deployment,) = tree["deployments"]
    if engines == "echo":
        deployment["engine"] = {"kind": "echo", "place": "replicas", "first_token": 0.02, "inter_token": 0.005}
        deployment.pop("model")
    else:
        deployment["model"]["source"] = str((DEMO.parent / deployment["model"]["source"]).resolve())
    return tree


def _series(page: str, name: str, label: str) -> dict[str, float]:
    """Of this metric, summed up by a label."""
    found: dict[str, float] = {}
    for line in page.splitlines():
        if line.startswith(f"{name}{{"):
            labels, _, value = line.removeprefix(f"{name}{{").rpartition("} ")
            of = dict(part.split("=", 1) for part in labels.split(",") if "=" in part).get(label, "").strip('"')
            found[of] = found.get(of, 0.0) + float(value.split()[0])
    return found


def _ray_logs(family: set[psutil.Process]) -> set[Path]:
    """Where Ray's processes log, as their command lines say."""
    found = set()
    for process in family:
        with contextlib.suppress(psutil.Error):
            words = [word.partition("=") for word in process.cmdline()]
            found |= {Path(value) for name, _, value in words if name in ("--log_dir", "--logs-dir") and value}
            for open_file in process.open_files():
                if "/session_" in open_file.path and "/logs/" in open_file.path:
                    found.add(Path(open_file.path.partition("/logs/")[0]) / "logs")
    return {path for path in found if path.is_dir()}


def _holds(file: Path, text: str) -> bool:
    with contextlib.suppress(OSError), file.open("rb") as lines:
        return any(text.encode() in line for line in lines)
    return False
