"""A disk that fills up under each writer: nothing crashes, what cannot be kept is refused, and it goes on by itself."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from serving.deployments.environment import free_ports
from serving.disk import is_full
from serving.telemetry.logs import JsonLog
from serving.tenants.spool import Spool
from tests.conftest import OpenSite
from tests.disks.conftest import Disk
from tests.local import chat, error_of, listening

DiskOf = Callable[[int], Disk]
PURPOSE = {"purpose": "batch"}


def upload(client: httpx.Client, size: int, path: str = "/v1/files") -> httpx.Response:
    return client.post(path, data=PURPOSE, files={"file": ("a.jsonl", b"x" * size)})


@contextmanager
def served(disk: Disk, **sections: Any) -> Iterator[tuple[httpx.Client, Callable[..., str]]]:
    """The product as `clinserve serve` starts it, all its state on the disk, metrics in shared files as under Ray; and
    what another command there says.
    """
    (port,) = free_ports(1)
    tree = {
        "server": {"runtime": "process", "state_dir": str(disk.folder / "state"), "port": port},
        "keys": {"demo_key_file": "demo.key"},
        "telemetry": {"request_log": "file", "metrics_port": 0},
        "audit": {"grace": 0.5, "flush": 0.1},
        "usage": {"flush": 0.1},
        "batches": {"reserve": 1},
        "deployments": [{"name": "echo", "engine": {"kind": "echo"}}],
    } | sections
    config = disk.folder.parent / "config.yaml"
    config.write_text(yaml.safe_dump(tree))
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(disk.folder / "state" / "run" / "metrics")}

    def command(*words: str) -> list[str]:
        return [sys.executable, "-c", "from serving.cli import main; main()", "--config", str(config), *words]

    def says(*words: str) -> str:
        return subprocess.run(command(*words), capture_output=True, text=True, check=True, timeout=60).stdout

    with (disk.folder.parent / "output").open("w") as output:
        server = subprocess.Popen(command("serve"), env=environment, stdout=output, stderr=output)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                wait_until(lambda: answers(client), 60)
                client.headers["api-key"] = (disk.folder / "state" / "demo.key").read_text().strip()
                yield client, says
                assert server.poll() is None, f"the server ended: {server.returncode}"
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(holds: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.1)


def test_the_product_on_a_full_disk_refuses_and_goes_on_when_there_is_room(disk_of: DiskOf) -> None:
    disk, seen = disk_of(12 * 2**20), Counter[int]()
    with served(disk) as (client, says):

        def ask() -> int:
            status = client.post("/v1/chat/completions", json=chat()).status_code
            seen[status] += 1
            return status

        assert ask() == 200 and upload(client, 1000).status_code == 200
        disk.fill()
        wait_until(lambda: ask() == 503)
        error_of(client.post("/v1/chat/completions", json=chat()), 503, "audit_unavailable")
        assert upload(client, 200_000).status_code in (503, 507)
        for path in ("/v1/models", "/livez", "/openai/deployments/echo/chat/completions?api-version=2024-10-21"):
            assert client.post(path, json=chat()).status_code in (200, 404, 405, 503)
        disk.empty()
        wait_until(lambda: ask() == 200)
        assert upload(client, 200_000).status_code == 200
        assert len(client.get("/v1/files").json()["data"]) == 2
        assert client.get("/v1/files").json()["data"][0]["bytes"] == 200_000
        wait_until(lambda: sum(row["requests"] for row in json.loads(says("usage", "--json"))) == seen[200])
        assert len(list((disk.folder / "state" / "files").iterdir())) == 2
    assert "valid" in says("audit", "verify").lower()
    assert "Traceback" not in (disk.folder.parent / "output").read_text()


def test_what_is_kept_free_is_for_the_audit_log(disk_of: DiskOf, site: OpenSite) -> None:
    disk = disk_of(8 * 2**20)
    here = site(batches={"folder": str(disk.folder / "files"), "reserve": 3 * 2**20})
    with listening(here.app) as url, httpx.Client(base_url=url, headers={"api-key": here.key}) as client:
        statuses = [upload(client, 700_000).status_code for _ in range(12)]
        assert statuses.count(200) >= 4 and set(statuses) == {200, 507} and statuses[-1] == 507
        assert disk.free >= 3 * 2**20
        assert len(client.get("/v1/files").json()["data"]) == statuses.count(200)


def test_content_leaves_room_on_the_disk_with_the_embedded_database(
    disk_of: DiskOf, site: OpenSite, installed: tuple[Path, str]
) -> None:
    """While less is free, uploads and batches wait or are refused; chat goes on, and its books are kept."""
    disk = disk_of(16 * 2**20)
    shutil.copytree(installed[0], disk.folder, dirs_exist_ok=True)
    here = site(server={"state_dir": str(disk.folder)}, batches={"reserve": 4 * 2**20})
    with listening(here.app) as url, httpx.Client(base_url=url, headers={"api-key": here.key}) as client:
        file = upload(client, 10).json()["id"]
        (disk.folder / "filler").write_bytes(b"x" * (disk.free - 2 * 2**20))
        error_of(upload(client, 10), 507, "insufficient_storage")
        request = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        error_of(client.post("/v1/batches", json=request), 507, "insufficient_storage")
        assert client.post("/v1/chat/completions", json=chat()).status_code == 200
        disk.empty()
        assert upload(client, 10).status_code == 200
        assert client.post("/v1/batches", json=request).status_code == 200


@pytest.mark.parametrize("path", ["/v1/files", "/openai/v1/files", "/openai/files?api-version=2024-10-21"])
def test_an_upload_that_finds_the_disk_full_is_507_and_leaves_nothing(
    disk_of: DiskOf, site: OpenSite, path: str
) -> None:
    disk = disk_of(2**20)
    here = site(batches={"folder": str(disk.folder / "files"), "reserve": 1})
    with listening(here.app) as url, httpx.Client(base_url=url, headers={"api-key": here.key}) as client:
        assert upload(client, 10, path).status_code == 200
        answer = upload(client, 3 * 2**20, path)
        error = error_of(answer, 507, "insufficient_storage")
        assert "no room" in error["message"] and answer.headers["retry-after"]
        assert len(client.get("/v1/files").json()["data"]) == 1
        kept = {file.name[0] for file in (disk.folder / "files").iterdir()}
        assert len(list((disk.folder / "files").glob("file-*"))) == 1 and kept == {".", "f"}
        disk.fill()
        error_of(upload(client, 10, path), 507, "insufficient_storage")
        disk.empty()
        assert upload(client, 10, path).status_code == 200


def test_a_disk_that_becomes_read_only_is_503_and_files_stay(disk_of: DiskOf, site: OpenSite) -> None:
    disk = disk_of(2**20)
    here = site(batches={"folder": str(disk.folder / "files"), "reserve": 1})
    with listening(here.app) as url, httpx.Client(base_url=url, headers={"api-key": here.key}) as client:
        file = upload(client, 10).json()["id"]
        disk.remount("ro")
        error_of(upload(client, 10), 503, "contents_unavailable")
        error_of(client.delete(f"/v1/files/{file}"), 503, "contents_unavailable")
        assert client.get(f"/v1/files/{file}/content").content == b"x" * 10
        disk.remount("rw")
        assert client.delete(f"/v1/files/{file}").json()["deleted"] is True


def test_a_disk_that_fails_to_read_is_503(tmp_path: Path, site: OpenSite) -> None:
    here = site(batches={"folder": str(tmp_path / "files")})
    with listening(here.app) as url, httpx.Client(base_url=url, headers={"api-key": here.key}) as client:
        file = upload(client, 10).json()["id"]
        (kept,) = (tmp_path / "files").glob("file-*")
        kept.unlink()
        kept.symlink_to("/proc/self/mem")  # whose first byte is an input/output error
        error_of(client.get(f"/v1/files/{file}/content"), 503, "contents_unavailable")


def test_a_request_log_on_a_full_disk_costs_no_request_and_its_lines_stay_whole(disk_of: DiskOf) -> None:
    disk, lost = disk_of(2**20), list[int]()
    log = JsonLog.in_file(disk.folder / "logs" / "requests.jsonl", on_lost=lambda: lost.append(1))
    log.anchored("before", 1, "a" * 64)
    disk.fill()
    for number in range(200):
        log.anchored("full", number, "b" * 500)
    assert lost
    disk.empty()
    log.anchored("after", 1, "c" * 64)
    whole, cut = Counter[str](), 0
    for line in (disk.folder / "logs" / "requests.jsonl").read_text().splitlines():
        try:
            whole[json.loads(line)["chain"]] += 1
        except ValueError:
            cut += 1
    assert whole["before"] == whole["after"] == 1 and cut <= 1
    assert whole["full"] + len(lost) == 200


def test_a_request_log_that_could_not_be_opened_begins_when_it_can(disk_of: DiskOf) -> None:
    disk, lost = disk_of(2**20), list[int]()
    disk.remount("ro")
    log = JsonLog.in_file(disk.folder / "logs" / "requests.jsonl", on_lost=lambda: lost.append(1))
    log.anchored("lost", 1, "")
    disk.remount("rw")
    log.anchored("kept", 1, "")
    assert len(lost) == 1 and "kept" in (disk.folder / "logs" / "requests.jsonl").read_text()


def test_the_spool_keeps_records_whole_or_not_at_all(disk_of: DiskOf) -> None:
    disk = disk_of(2**20)
    spool = Spool[str](disk.folder / "spool", encode=str, decode=str)
    spool.keep(["one"])
    with pytest.raises(OSError, match="No space left"):
        spool.keep(["x" * 1000] * 2000)
    assert [file.records for file in spool.files()] == [["one"]] and len(list((disk.folder / "spool").iterdir())) == 1


METRICS = """
import os, sys, time
from serving.telemetry import mapped
from serving.telemetry.metrics import PrometheusMetrics
mapped._TRY_SECONDS = 0.1

def count(metrics, label, times):
    for number in range(times):
        metrics.backlog(f"{label}{number}", number)
        metrics.noted("spills", f"{label}{number}", "x" * 200)

metrics = PrometheusMetrics()
if sys.argv[1] == "grows":
    count(metrics, "before", 3)
print("begun", flush=True); sys.stdin.readline()
count(metrics, "full", 3000)
print("full", flush=True); sys.stdin.readline()
time.sleep(0.2)
count(metrics, "after", 1)
text = metrics.scrape()[0].decode()
print(all(f'"{name}"' in text for name in ("full0", "full2999", "after0")), flush=True)
"""


@pytest.mark.parametrize("how", ["begins", "grows"])
def test_metrics_on_a_full_disk_end_no_process_and_are_all_there_afterwards(disk_of: DiskOf, how: str) -> None:
    """prometheus_client's own files do: SIGBUS, which nothing can catch."""
    disk = disk_of(4 * 2**20)
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(disk.folder)}
    if how == "begins":
        disk.fill()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, "-c", METRICS, how], env=environment, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "begun\n"
        if how == "grows":
            disk.fill()
        print(file=process.stdin, flush=True)
        assert process.stdout.readline() == "full\n", process.wait()
        disk.empty()
        print(file=process.stdin, flush=True)
        assert process.stdout.readline() == "True\n"
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("number", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EROFS, False), (errno.EIO, False)]
)
def test_a_quota_is_a_full_disk_and_a_broken_one_is_not(number: int, full: bool) -> None:
    assert is_full(OSError(number, "x")) is full
