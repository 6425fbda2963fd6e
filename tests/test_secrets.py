"""The secrets of an installation: made once, kept private, one for each purpose."""

from __future__ import annotations

import threading
from pathlib import Path

from serving.secrets import Secrets


def test_secrets_are_made_once_and_then_kept(tmp_path: Path) -> None:
    first = Secrets.load(tmp_path, {})
    assert Secrets.load(tmp_path, {}) == first
    assert len({first.pepper, first.engine.encode(), first.cache_salt}) == 3
    assert min(len(first.pepper), len(first.engine), len(first.cache_salt)) == 64


def test_two_installations_share_no_secret(tmp_path: Path) -> None:
    one, other = Secrets.load(tmp_path / "a", {}), Secrets.load(tmp_path / "b", {})
    assert one.pepper != other.pepper and one.engine != other.engine and one.salt_of("x") != other.salt_of("x")


def test_their_files_are_their_owners_only(tmp_path: Path) -> None:
    Secrets.load(tmp_path, {})
    folder = tmp_path / "secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.name: file.stat().st_mode & 0o777 for file in folder.iterdir()} == {
        "pepper": 0o600, "engine": 0o600, "cache_salt": 0o600,
    }  # fmt: skip


def test_the_environment_wins_and_needs_no_file(tmp_path: Path) -> None:
    environ = {"CLINSERVE_PEPPER": "p", "CLINSERVE_ENGINE_SECRET": "e", "CLINSERVE_CACHE_SALT": "c"}
    assert Secrets.load(tmp_path / "state", environ) == Secrets(b"p", "e", b"c")
    assert not (tmp_path / "state").exists()


def test_an_empty_variable_is_none(tmp_path: Path) -> None:
    assert len(Secrets.load(tmp_path, {"CLINSERVE_ENGINE_SECRET": ""}).engine) == 64


def test_they_do_not_show_when_printed(tmp_path: Path) -> None:
    secrets = Secrets.load(tmp_path, {})
    assert secrets.engine not in f"{secrets} {secrets!r}" and repr(secrets.pepper)[2:-1] not in repr(secrets)


def test_those_that_start_at_once_agree_and_leave_nothing_else_behind(tmp_path: Path) -> None:
    made: list[Secrets] = []
    threads = [threading.Thread(target=lambda: made.append(Secrets.load(tmp_path, {}))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8 and len({secrets.engine for secrets in made}) == 1
    assert {file.name for file in (tmp_path / "secrets").iterdir()} == {"pepper", "engine", "cache_salt"}
