"""What the product leaves open to other users of its machine: nothing. With real Ray: tests/e2e/test_serving.py."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from serving import hardening


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A server in one process, whose folder an earlier version made readable to all."""
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = tmp_path / "config.yaml"
    config.write_text(
        yaml.safe_dump({
            "server": {"runtime": "process", "state_dir": str(state), "port": port},
            "keys": {"demo_key_file": "demo.key"},
            "telemetry": {"request_log": "file"},
            "deployments": [{"name": "echo", "engine": {"kind": "echo"}}],
        })
    )  # fmt: skip
    command = [sys.executable, "-m", "serving.cli", "serve", "--config", config]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, umask=0o000)
    try:
        for _ in range(600):
            try:
                if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        asked = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
        key = {"Authorization": f"Bearer {(state / 'demo.key').read_text().strip()}"}
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=asked, headers=key)
        assert answer.status_code == 200
        yield process, state
    finally:
        process.terminate()
        process.wait(20)


def test_files_and_folders_of_a_server_are_its_users_alone(served: tuple[subprocess.Popen[bytes], Path]) -> None:
    _, state = served
    paths = [state, *state.rglob("*")]
    assert len(paths) > 5 and (state / "clinserve.db").exists()
    assert {str(path): oct(mode(path)) for path in paths if mode(path) & 0o077} == {}


def test_a_server_dumps_no_core_and_shows_its_memory_to_nobody(served: tuple[subprocess.Popen[bytes], Path]) -> None:
    process, _ = served
    proc = Path(f"/proc/{process.pid}")
    (limit,) = (line.split()[4:6] for line in (proc / "limits").read_text().splitlines() if "core file" in line)
    assert limit == ["0", "0"]
    assert "Umask:\t0077" in (proc / "status").read_text()
    if (
        os.geteuid() == 0
    ):  # a process that may not be dumped belongs to root, whoever runs it: seen by another user only
        unprivileged = subprocess.run([sys.executable, "-c", DUMPABLE], capture_output=True, text=True, check=True)
        assert unprivileged.stdout.split() == ["1", "0"]


DUMPABLE = """
import ctypes
from serving import hardening
asked = ctypes.CDLL(None).prctl
before = asked(3, 0, 0, 0, 0)
hardening.keep_memory_private()
print(before, asked(3, 0, 0, 0, 0))
"""


CHILD = """
import subprocess
from serving import hardening
hardening.keep_private()
subprocess.run(["sh", "-c", "ulimit -c; ulimit -Hc; umask"])
"""


def test_what_a_process_starts_dumps_no_core_either() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "0", "0077"]


def test_a_folder_that_was_open_is_closed_and_a_token_is_new_and_its_owners(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    assert mode(hardening.private_folder(tmp_path / "open")) == 0o700
    assert mode(hardening.private_folder(tmp_path / "new" / "deep")) == 0o700
    one, other = (hardening.private_token(tmp_path / name) for name in ("a", "b"))
    assert mode(one) == 0o600 and one.read_text() != other.read_text() and len(one.read_text()) == 64
    with pytest.raises(FileExistsError):
        hardening.private_token(one)
