"""Metrics of processes that have ended: nothing is lost, nothing counts twice, and files do not pile up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from serving.telemetry.ended import counted_files
from serving.telemetry.metrics import MULTIPROCESS_DIR, PrometheusMetrics

THINGS = 'things_total{kind="a"}'
ENDED = 99_999_001
"""A pid, and those after it, that no system gives."""

WRITER = """
from prometheus_client import Counter, Gauge, Histogram, Summary
things, times = Counter("things", "Things.", ["kind"]), Histogram("times", "Times.", buckets=(1, 2))
sizes, now = Summary("sizes", "Sizes."), Gauge("now", "Now.", multiprocess_mode="max")
done = 0
while True:
    things.labels("a").inc()
    times.observe(done % 3)
    sizes.observe(2)
    now.set(1)
    done += 1
    print(done, flush=True)
"""


def leave(directory: Path, pid: int, kind: str = "counter", **values: float) -> None:
    """The file of a process that has ended."""
    file = MmapedDict(str(directory / f"{kind}_{pid}.db"))
    for name, value in values.items():
        file.write_value(mmap_key(name, name, [], [], "Things."), value, 0.0)
    file.close()


def counted(directory: Path) -> tuple[dict[str, float], int]:
    """The sums by name, and the number of files that they come from."""
    sums: Counter[str] = Counter()
    with counted_files(directory) as files:
        for file in files:
            for key, value, *_ in MmapedDict.read_all_values_from_file(str(file)):
                sums[re.findall(r"\w+", key)[0]] += value
    return dict(sorted(sums.items())), len(files)


def test_writers_that_are_killed_leave_sums_that_never_fall_and_no_more_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MULTIPROCESS_DIR, str(tmp_path))

    def shown() -> dict[str, float]:
        text = PrometheusMetrics().scrape()[0].decode()
        return {name: float(value) for name, value in re.findall(r"^([a-z]\S+) (\S+)$", text, re.MULTILINE)}

    done, seen = 0, [0.0]
    for _ in range(2):
        writers = [subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE) for _ in range(3)]
        for writer in writers:
            assert writer.stdout is not None and writer.stdout.readline() == b"1\n"
        for writer in writers:
            seen.append(shown()[THINGS])
            writer.kill()
            lines, _ = writer.communicate()
            done += int(lines.split()[-2])  # the last line may be half a one
        seen.append(shown()[THINGS])
    assert seen == sorted(seen)
    told = shown()
    for name in (THINGS, "times_count", 'times_bucket{le="+Inf"}', "sizes_count"):
        assert done <= told[name] <= done + 2 * 6, name
    assert "now" not in told, "what a process said of its present ends with it"
    assert sorted(file.name for file in tmp_path.rglob("*.db")) == [
        "counter_sum.db",
        "histogram_sum.db",
        "summary_sum.db",
    ]


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from serving.telemetry.ended import counted_files
from tests.telemetry.test_ended import counted

STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "mmap.__new__"}
template, folder = Path(sys.argv[1]), Path(sys.argv[2])
last, status = 0, 1
while status:
    last += 1
    shutil.copytree(template, folder)
    child = os.fork()
    if not child:
        left = last

        def kill_at_the_last(event, _):
            global left
            left -= event in STEPS
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(kill_at_the_last)
        with counted_files(folder):
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(last, *counted(folder))
    shutil.rmtree(folder)
"""


def test_whoever_is_killed_while_adding_up_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    template = tmp_path / "template"
    template.mkdir()
    leave(template, ENDED, things=3)
    counted(template)  # there is a sum already
    for pid in (ENDED + 1, ENDED + 2):
        leave(template, pid, things=10, others=1)
        leave(template, pid, "histogram", times=5)
    leave(template, ENDED + 1, "gauge_livesum", now=1)
    done = subprocess.run([sys.executable, "-c", KILLED, template, tmp_path / "copy"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    steps = [line.partition(" ") for line in done.stdout.splitlines()]
    assert len(steps) > 20
    assert {after for _, _, after in steps} == {"{'others': 2.0, 'things': 23.0, 'times': 10.0} 2"}


def test_a_process_that_gets_the_pid_of_one_that_has_ended_counts_from_nought(tmp_path: Path) -> None:
    for total in (5.0, 10.0, 15.0):
        leave(tmp_path, ENDED, things=5)
        assert counted(tmp_path) == ({"things": total}, 1)


def test_half_a_file_gives_what_is_whole_in_it_and_spoils_no_scrape(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for pid, length in enumerate((0, 2, 8, 60, 100), start=ENDED):
        leave(tmp_path, pid, things=1, others=1)
        file = tmp_path / f"counter_{pid}.db"
        file.write_bytes(file.read_bytes()[:length])
    leave(tmp_path, ENDED + 9, things=1)
    sums, files = counted(tmp_path)
    assert sums["things"] == 2.0 and files == 1
    assert len(caplog.records) == 5 and str(tmp_path) not in caplog.text


def test_a_file_that_is_just_being_opened_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / f"counter_{os.getpid()}.db").touch()
    (tmp_path / f"histogram_{os.getpid()}.db").write_bytes(bytes(2**16))
    leave(tmp_path, ENDED, things=1)
    assert counted(tmp_path) == ({"things": 1.0}, 2)
    assert len(list(tmp_path.glob("*.db"))) == 2


def test_many_processes_add_up_at_a_time(tmp_path: Path) -> None:
    for pid in range(ENDED, ENDED + 50):
        leave(tmp_path, pid, things=1)
    program = (
        "import sys; from pathlib import Path; from tests.telemetry.test_ended import counted;"
        "print(counted(Path(sys.argv[1])))"
    )
    several = [
        subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert {process.communicate()[0] for process in several} == {"({'things': 50.0}, 1)\n"}
