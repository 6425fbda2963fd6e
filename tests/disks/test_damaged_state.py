"""Whatever a file of the state directory has become, no command ends with a traceback: it works, or says why."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.app import build_parts, load_settings
from serving.telemetry.exposition import page
from serving.weights.digest import Digests
from tests.commands.shell import Shell
from tests.conftest import no_replicas

Damage = Callable[[Path], object]
DAMAGES: dict[str, Damage] = {
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(b"\0" * 5000),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 20),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if path.exists() else b'{"a'),
    "other JSON": lambda path: path.write_text("[1, 2]"),
    "deep JSON": lambda path: path.write_text("[" * 100_000),
    "a huge number": lambda path: path.write_text('{"pid": ' + "9" * 4000 + "}"),
    "a folder": lambda path: (path.unlink(missing_ok=True), path.mkdir()),
    "a link to nowhere": lambda path: (path.unlink(missing_ok=True), path.symlink_to("/nonexistent/x")),
}
FILES = [
    "clinserve.db", "clinserve.db-wal", "demo.key", "secrets/pepper", "secrets/signing", "run/serve.json",
    "digests.json", "spool/audit/1.jsonl", "files.place", "run/metrics/counter_1.db",
]  # fmt: skip
COMMANDS = [["keys", "list"], ["audit", "verify"], ["prepare"], ["doctor"]]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("name", FILES)
def test_commands_work_or_say_in_one_line_what_is_damaged(
    tmp_path: Path, installed: tuple[Path, str], name: str, damage: Damage
) -> None:
    shell = Shell.at(tmp_path, installed[0])
    path = shell.folder / "state" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    damage(path)
    (shell.folder / "config.yaml").write_text(
        (shell.folder / "config.yaml").read_text() + "keys: {demo_key_file: demo.key}\n"
    )
    for words in [["reload", "--timeout", "1"]] if name.startswith("run/serve") else COMMANDS:
        result = shell.run(*words)
        assert result.exception is None or isinstance(result.exception, SystemExit), (words, result.exception)
        assert "Traceback" not in result.output
        if result.exit_code and words[0] not in ("doctor", "audit"):
            assert result.stderr.strip(), words


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
@pytest.mark.parametrize("kind", ["counter", "gauge_livesum", "histogram"])
def test_a_damaged_file_of_metrics_costs_itself_only(
    tmp_path: Path, kind: str, damage: Damage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prometheus_client import CollectorRegistry
    from prometheus_client.mmap_dict import MmapedDict, mmap_key

    from serving.telemetry.exemplars import Exemplars

    good = MmapedDict(str(tmp_path / f"counter_{os.getpid()}.db"))  # type: ignore[no-untyped-call]
    good.write_value(mmap_key("good", "good_total", ["a"], ["b"], "help"), 5.0, 0.0)  # type: ignore[no-untyped-call]
    for pid in ("1", "99999999"):  # one lives
        damage(tmp_path / f"{kind}_{pid}.db")
    for _ in range(2):
        assert b'good_total{a="b"} 5.0' in page(CollectorRegistry(), Exemplars(), "", tmp_path)[0]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_memory_of_digests_is_made_anew(tmp_path: Path, damage: Damage) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "a").write_bytes(b"a")
    digests = Digests(tmp_path / "digests.json")
    first = digests.of(weights)
    damage(tmp_path / "digests.json")
    assert digests.of(weights) == first == digests.of(weights)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_gateway_starts_on_a_damaged_spool_or_mark(
    tmp_path: Path, installed: tuple[Path, str], damage: Damage
) -> None:
    shell = Shell.at(tmp_path, installed[0])
    state = shell.folder / "state"
    (state / "spool" / "usage").mkdir(parents=True)
    for path in (state / "files.place", state / "spool" / "usage" / "1.jsonl"):
        damage(path)
    build_parts(load_settings(shell.folder / "config.yaml"), no_replicas)


def test_a_database_that_only_can_be_read_is_one_line(tmp_path: Path, installed: tuple[Path, str]) -> None:
    shell = Shell.at(tmp_path, installed[0])
    with sqlite3.connect(shell.folder / "state" / "clinserve.db") as database:
        database.execute("DROP TABLE limits")  # of another program, or restored by half
    assert "database" in shell.refuses("limits", "list").lower()
    shutil.rmtree(shell.folder / "state")
    (shell.folder / "state").write_text("")
    assert shell.run("tenants", "list").exit_code == 1
