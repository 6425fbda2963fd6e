"""A shell in which `clinserve` works on a state directory of its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner, Result

from serving.app import open_office
from serving.cli import cli
from serving.commands.office import Office
from serving.settings import Settings, load


@dataclass(frozen=True)
class Shell:
    folder: Path

    @classmethod
    def at(cls, folder: Path, template: Path) -> Shell:
        """template: a state directory, as the fixture `installed` makes one."""
        shutil.copytree(template, folder / "state")
        server = {"runtime": "process", "state_dir": str(folder / "state")}
        tree = {"server": server, "deployments": [{"name": "echo", "engine": {"kind": "echo"}}]}
        (folder / "config.yaml").write_text(yaml.safe_dump(tree))
        return cls(folder)

    def run(self, *words: str) -> Result:
        return CliRunner().invoke(cli, ["--config", str(self.folder / "config.yaml"), *words])

    def says(self, *words: str) -> str:
        """What a command prints that does what it should."""
        result = self.run(*words)
        assert result.exit_code == 0, result.output
        return result.stdout

    def tells(self, *words: str) -> Any:
        """What it prints with --json."""
        return json.loads(self.says(*words, "--json"))

    def refuses(self, *words: str) -> str:
        """The error of a command that cannot, when it is one line as promised."""
        result = self.run(*words)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1), result.output
        return result.stderr

    @property
    def settings(self) -> Settings:
        return load(self.folder / "config.yaml")

    def office(self) -> Office:
        return open_office(self.settings)
