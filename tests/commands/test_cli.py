"""The `clinserve` command as a whole: its verbs, their help, and how a wrong configuration is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from serving import __version__
from serving.app import build_keyring, load_settings
from serving.cli import cli
from serving.settings import Settings

VERBS = [
    [], ["serve"], ["chat"], ["doctor"], ["config"], ["config", "check"], ["config", "show"], ["config", "reference"],
    ["tenants"], *(["tenants", verb] for verb in ("create", "list", "show", "disable", "enable")),
    ["keys"], *(["keys", verb] for verb in ("create", "list", "rotate", "revoke")),
    ["limits"], *(["limits", verb] for verb in ("set", "list", "clear")),
    ["usage"], ["usage", "prune"],
    ["audit"], *(["audit", verb] for verb in ("list", "verify", "export", "find", "prune", "public-key")),
]  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    engine = {"kind": "echo", "first_token": "50ms"}
    tree = {"server": {"state_dir": str(tmp_path / "state")}, "deployments": [{"name": "echo", "engine": engine}]}
    file.write_text(yaml.safe_dump(tree))
    return file


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_explains_itself(verb: list[str]) -> None:
    result = CliRunner().invoke(cli, [*verb, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.stdout and "--help" in result.stdout


READS = [
    ["serve"], ["doctor"], ["serve-config"], ["prepare"], ["reload"], ["metrics"], ["config", "check"],
    ["config", "show"], ["keys", "list"], ["tenants", "list"], ["limits", "list"], ["usage"], ["audit", "list"],
    ["weights", "verify"], ["profile", "echo"],
]  # fmt: skip
READS_NONE = [
    ["chat"],
    ["status"],
    ["top"],
    ["plan"],
    ["batch", "list"],
    ["config", "reference"],
    ["weights", "digest", "."],
]


@pytest.mark.parametrize("verb", READS, ids=" ".join)
def test_every_verb_takes_the_configuration_before_or_after_it(verb: list[str], tmp_path: Path) -> None:
    missing = str(tmp_path / "elsewhere.yaml")
    for words in (["--config", missing, *verb], [*verb, "--config", missing], [*verb, "-c", missing]):
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 1 and "elsewhere.yaml" in result.output.replace("\n", "")


@pytest.mark.parametrize("verb", READS_NONE, ids=" ".join)
def test_a_verb_that_reads_no_configuration_refuses_one(verb: list[str], file: Path) -> None:
    for words in (["-c", str(file), *verb], [*verb, "--config", str(file)]):
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 2 and "reads no configuration" in " ".join(result.stderr.replace("│", "").split())


def test_two_configurations_are_one_too_many(file: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["-c", str(file), "config", "check", "-c", str(tmp_path / "other.yaml")])
    assert (result.exit_code, result.stdout) == (2, "") and "two files are named" in result.stderr


def test_without_the_option_the_environment_names_the_file(file: Path, tmp_path: Path) -> None:
    checked = CliRunner().invoke(cli, ["config", "check"], env={"CLINSERVE_CONFIG": str(file)})
    assert checked.stdout.splitlines()[-1] == f"{file}: valid"
    named = ["config", "check", "-c", str(tmp_path / "nothing.yaml")]
    assert CliRunner().invoke(cli, named, env={"CLINSERVE_CONFIG": str(file)}).exit_code == 1


def test_the_root_names_every_verb() -> None:
    listed = CliRunner().invoke(cli, ["--help"]).stdout
    assert all(f" {verb[0]} " in listed for verb in VERBS if verb)


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(cli, ["--version"]).stdout.strip() == __version__


def test_check_tells_the_deployments_of_a_good_file(file: Path) -> None:
    result = CliRunner().invoke(cli, ["config", "check", "-c", str(file)])
    assert (result.exit_code, result.stdout.splitlines()) == (0, ["echo: echo, replicas 1", f"{file}: valid"])


@pytest.mark.parametrize("verb", [["config", "check"], ["config", "show"], ["serve"], ["keys", "list"]])
def test_every_mistake_is_a_line_and_the_status_is_1(file: Path, verb: list[str]) -> None:
    file.write_text("server: {prot: 1}\ndeployments: [{name: echo, engine: {kind: echo, first_tokn: 1}}]")
    result = CliRunner().invoke(cli, ["-c", str(file), *verb])
    assert (result.exit_code, result.stdout) == (1, "")
    assert sorted(result.stderr.splitlines()) == [
        f"clinserve: {file}: deployments[0].engine.first_tokn: unknown setting; did you mean 'first_token'?",
        f"clinserve: {file}: server.prot: unknown setting; did you mean 'port'?",
    ]


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["config", "check", "-c", str(tmp_path / "nothing.yaml")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"clinserve: {tmp_path}/nothing.yaml: No such file or directory\n"


def test_show_prints_what_is_in_force_as_a_file_that_reads_back(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLINSERVE_SERVER__PORT", "9000")
    shown = CliRunner().invoke(cli, ["config", "show", "-c", str(file)]).stdout
    in_force = load_settings(file)
    assert in_force.server.port == 9000
    assert Settings.model_validate(yaml.safe_load(shown)) == in_force


async def test_keys_are_made_where_the_configuration_says(file: Path) -> None:
    CliRunner().invoke(cli, ["-c", str(file), "tenants", "create", "ward"])
    result = CliRunner().invoke(cli, ["-c", str(file), "keys", "create", "--name", "ci", "--tenant", "ward"])
    caller = await build_keyring(load_settings(file)).identify(result.stdout.strip())
    assert (caller.tenant, caller.key_name) == ("ward", "ci")
