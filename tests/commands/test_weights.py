"""`clinserve weights`, the doctor's word on sources, and a server that does not start on what is not pinned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from serving.app import load_settings, revisions_of
from serving.azure_storage import KEY as KEY_VARIABLE
from serving.cli import cli
from serving.commands.progress import Progress
from serving.commands.serve import CannotStart, fetch_weights
from serving.deployments.environment import free_ports
from serving.weights.digest import digest_of
from serving.weights.files import files_of
from tests.azurite import KEY, Azurite
from tests.weights.models import DEMO, copied, stored

Config = Callable[..., Path]
WRONG = "sha256:" + "0" * 64


@pytest.fixture
def config(tmp_path: Path, azurite: Azurite, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A configuration with one vLLM deployment, whose model is the demo on Azurite unless it says something else."""
    monkeypatch.setenv(KEY_VARIABLE, KEY)

    def write(**model: Any) -> Path:
        given = {"source": str(stored(azurite)), "digest": digest_of(DEMO)} | model
        deployment = {"name": "notes", "model": given, "engine": {"kind": "vllm", "device": "cpu"}}
        tree = {
            "server": {"state_dir": str(tmp_path / "state"), "port": free_ports(1)[0]},
            "weights": {"blob_endpoint": azurite.endpoint},
            "deployments": [deployment, {"name": "echo", "engine": {"kind": "echo"}}],
        }
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump(tree))
        return file

    return write


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["--config", str(config), "weights", *words])


def refused(result: Result) -> str:
    assert result.exit_code == 1 and result.stderr.count("\n") == 1, result.output
    return result.stderr


def test_weights_are_pulled_verified_and_named(config: Config, tmp_path: Path) -> None:
    file, place = config(), tmp_path / "state" / "models" / digest_of(DEMO).replace(":", "-")
    assert "is not on this machine: clinserve weights pull notes" in refused(run(file, "verify"))
    pulled = run(file, "pull")
    assert pulled.exit_code == 0 and f"  {place}\n" in pulled.stdout and files_of(place) == files_of(DEMO)
    verified = run(file, "verify", "notes")
    assert f"  {digest_of(DEMO)}  {place}  as pinned" in verified.stdout
    assert CliRunner().invoke(cli, ["weights", "digest", str(place)]).stdout == f"{digest_of(DEMO)}\n"
    (place / "config.json").write_text("{}")
    assert "is pinned" in refused(run(file, "verify")) and "is pinned" in refused(run(file, "pull"))


def test_what_cannot_be_done_is_one_line(config: Config) -> None:
    assert "there is no deployment 'echo' with weights" in refused(run(config(), "pull", "echo"))
    assert "there is no directory nowhere" in refused(CliRunner().invoke(cli, ["weights", "digest", "nowhere"]))
    assert "is pinned" in refused(run(config(digest=WRONG), "pull"))


def test_the_ledger_says_what_is_pinned_or_what_there_is(config: Config, tmp_path: Path) -> None:
    def revision(**model: Any) -> str:
        return revisions_of(load_settings(config(**model)))["notes"]

    assert revision() == digest_of(DEMO)
    assert revision(source=str(DEMO), digest=None) == digest_of(DEMO)
    assert revision(source="hf://org/model", revision="0" * 40, digest=None) == f"org/model@{'0' * 40}"
    assert revision(source="org/model", digest=None) == "org/model@unpinned"
    assert revision(source="org/model") == digest_of(DEMO)


def test_a_server_does_not_start_on_other_weights_than_those_that_are_pinned(config: Config, tmp_path: Path) -> None:
    fetch_weights(load_settings(config()), Progress())
    (model := copied(tmp_path)).joinpath("extra.bin").write_bytes(b"x")
    for changes, said in (
        ({"digest": WRONG}, "is pinned"),
        ({"source": str(DEMO), "digest": WRONG}, "is pinned"),
        ({"source": str(model), "digest": None}, "allow_pickle"),
    ):
        with pytest.raises(CannotStart, match=f"^notes: .*{said}"):
            fetch_weights(load_settings(config(**changes)), Progress())


def diagnosis(file: Path) -> str:
    lines = CliRunner().invoke(cli, ["doctor", "--config", str(file)]).stdout.splitlines()
    return next(line for line in lines if "deployment notes" in line)


def test_the_doctor_says_whether_weights_are_pinned_and_to_be_had(
    config: Config, azurite: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    pinned = f"pinned to {digest_of(DEMO)[:19]}..."
    file = config()
    assert "✓ deployment notes: az://devstoreaccount1/" in diagnosis(file)
    assert f"{pinned}, 0.01 GB to be downloaded" in diagnosis(file)
    run(file, "pull")
    assert f"{pinned}, on this machine" in diagnosis(file)
    assert "✗" in (said := diagnosis(config(source="az://devstoreaccount1/nowhere/x", digest=WRONG)))
    assert "there is no such container" in said
    assert "! deployment notes: hf://org/model, not pinned" in diagnosis(config(source="org/model", digest=None))
    assert "✓" in diagnosis(config(source="org/model", revision="0" * 40, digest=None))
    assert diagnosis(config(source=str(DEMO), digest=None)).endswith("no digest, on this machine")
    monkeypatch.setenv(KEY_VARIABLE, "d3Jvbmc=")
    assert "✗" in diagnosis(config(digest=WRONG))
