"""The log file's turn: nothing lost, nothing twice, whoever writes."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from serving.commands.serve import added_to
from serving.telemetry.rotated import RotatedFile

WRITER = """
import sys
from pathlib import Path
from serving.telemetry.rotated import RotatedFile
file = RotatedFile(Path(sys.argv[1]), size=2000, keep=100)
for number in range(300):
    file.write(f"{sys.argv[2]} {number} {'x' * (number % 50)}\\n")
"""


def test_several_processes_lose_no_line_and_write_none_twice(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    command = [sys.executable, "-c", WRITER, str(path)]
    for writer in [subprocess.Popen([*command, name]) for name in "abc"]:
        assert writer.wait() == 0
    files = [*tmp_path.glob("requests.jsonl"), *tmp_path.glob("requests.jsonl.[0-9]*")]
    lines = [tuple(line.split()[:2]) for file in files for line in file.read_text().splitlines()]
    assert sorted(lines) == sorted((name, str(number)) for name in "abc" for number in range(300))
    assert len(files) > 10
    assert all(file.stat().st_size < 2000 + 200 for file in files)  # two may find room for one line


def test_the_oldest_files_go_and_all_are_their_owners_alone(tmp_path: Path) -> None:
    file = RotatedFile(tmp_path / "log", size=10, keep=2)
    for number in range(6):
        file.write(f"line {number}\n")
    assert {one.name: one.read_text() for one in tmp_path.iterdir() if one.name != "log.lock"} == {
        "log": "line 5\n", "log.1": "line 4\n", "log.2": "line 3\n",
    }  # fmt: skip
    assert all(one.stat().st_mode & 0o077 == 0 for one in tmp_path.iterdir())


def test_none_may_be_kept_and_a_line_longer_than_the_file_is_written_whole(tmp_path: Path) -> None:
    file = RotatedFile(tmp_path / "log", size=10, keep=0)
    file.write("a line too long for it\n")
    assert (tmp_path / "log").read_text() == "a line too long for it\n"
    file.write("next\n")
    assert (tmp_path / "log").read_text() == "next\n" and not (tmp_path / "log.1").exists()


def test_a_file_that_somebody_else_has_moved_is_begun_anew(tmp_path: Path) -> None:
    file = RotatedFile(tmp_path / "log", size=1000, keep=2)
    file.write("one\n")
    (tmp_path / "log").rename(tmp_path / "elsewhere")
    file.write("two\n")
    assert (tmp_path / "log").read_text() == "two\n"


def test_whoever_follows_the_log_sees_every_line_over_its_turns(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = RotatedFile(path, size=40, keep=50)
    seen: list[str] = []
    ready = threading.Event()

    def follow() -> None:
        for line in added_to(path, pause=0.001):
            seen.append(line)
            ready.set()
            if line == "end\n":
                return

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    while not ready.wait(0.02):
        file.write("begin\n")
    for number in range(20):
        file.write(f"line {number}\n")
        while seen[-1] != f"line {number}\n":
            ready.wait(0.001)
    file.write("end\n")
    follower.join(5)
    assert [line for line in seen if line != "begin\n"] == [*(f"line {number}\n" for number in range(20)), "end\n"]
