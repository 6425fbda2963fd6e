"""docs/runbook.md: its commands are ones that the command line takes, its names are ones that exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml
from typer.core import TyperGroup
from typer.exceptions import TyperException

from serving.cli import cli
from serving.commands.configuration import ConfigurationFile
from serving.settings import reference

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "runbook.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
CHART = ROOT / "helm" / "clinserve" / "values.yaml"
OBSERVABILITY = ROOT / "deploy" / "observability"


def commands() -> list[str]:
    """Every call of clinserve, in blocks and in sentences."""
    in_blocks = re.findall(r"(?:^|-- )(clinserve [^|>\n]+)", "\n".join(LINES), re.MULTILINE)
    in_sentences = re.findall(r"`(clinserve [^`]+)`", re.sub(r"^```\n.*?^```", "", TEXT, flags=re.M | re.S))
    return sorted({" ".join(command.split()) for command in (*in_blocks, *in_sentences)})


def parsed(words: list[str]) -> None:
    """As the command line parses them, without doing it. Raises LookupError, TyperException."""
    command = typer.main.get_command(cli)
    context = typer.Context(command, info_name="clinserve", obj=ConfigurationFile(None, pytest.fail))
    while isinstance(command, TyperGroup) and not (command.invoke_without_command and words[0].startswith("-")):
        found = command.get_command(context, words[0])
        if found is None:
            raise LookupError(words[0])
        command, words = found, words[1:]
    command.make_context(command.name, words, parent=context)


@pytest.mark.parametrize("command", commands())
def test_the_command_line_takes_every_command(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    if words == ["audit", "verify", "--file"]:
        words.append("FILE")  # a sentence about the option
    parsed(words)


def test_a_wrong_command_would_be_noticed() -> None:
    for words in (["audit", "verfy"], ["keys", "rotate"], ["keys", "rotate", "ID", "--grase", "1h"]):
        with pytest.raises((LookupError, TyperException)):
            parsed(words)


def test_there_are_commands_in_every_part() -> None:
    for part in TEXT.split("\n## ")[1:]:
        assert "```" in part, part.splitlines()[0]
    assert len(commands()) > 40


def test_every_alert_has_a_way_in_and_no_other_is_named() -> None:
    rules = "".join(file.read_text() for file in (OBSERVABILITY / "rules").glob("*.yml"))
    assert set(re.findall(r"alert: (\w+)", rules)) == set(re.findall(r"`(Clinserve\w+)`", TEXT.partition("## ")[0]))
    assert set(re.findall(r"`(Clinserve\w+)`", TEXT)) <= set(re.findall(r"alert: (\w+)", rules))


def test_dashboards_have_the_panels_that_are_named() -> None:
    panels = {}
    for file in (OBSERVABILITY / "dashboards").glob("*.json"):
        board = json.loads(file.read_text())
        panels[board["title"].removeprefix("clinserve: ")] = {panel.get("title") for panel in board["panels"]}
    text = " ".join(TEXT.split())
    named = re.findall(r"[Dd]ashboard (\w+), `([^`]+)`", text)
    assert len(named) >= 10
    assert [(board, panel) for board, panel in named if panel not in panels[board]] == []
    every = set().union(*panels.values())
    alone = re.findall(r"`([A-Z][a-z]+ [a-z][^`]*)`", text)  # such as what an event says
    assert {name for name in alone if name not in every} == {
        "No available memory for the cache blocks",
        "Insufficient nvidia.com/gpu",
    }


def test_settings_and_outcomes_that_are_named_exist() -> None:
    settings = {re.sub(r"\[\]|\.\(\w+\)", "", path) for path, _, _ in reference()}
    sections = {path.partition(".")[0] for path in settings}
    named = set(re.findall(r"`([a-z_]+\.[a-z_.]+)(?::[^`]*)?`", TEXT)) - {"limits.max_in_flight"}
    ours = {name for name in named if name.partition(".")[0] in sections and name.partition(".")[0] != "secrets"}
    assert len(ours) >= 6 and ours - settings == set()
    outcomes = set(re.findall(r"`((?:engine|audit|store|rate)_[a-z_]+)`", TEXT))
    assert len(outcomes) > 2 and all(f"| `{code}` |" in (ROOT / "README.md").read_text() for code in outcomes)


def test_links_lead_somewhere() -> None:
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in re.findall("^##? (.+)$", TEXT, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
    files = re.findall(r"\]\(([^)#]+)", TEXT)
    assert [file for file in files if not (ROOT / "docs" / file).exists()] == []


def test_the_charts_values_and_labels_that_are_named_exist() -> None:
    values = yaml.safe_load(CHART.read_text())
    named = {"upgrade.strategy", "head.faultTolerance.redisAddress", "secrets.existingSecret"}
    assert all(name in TEXT for name in named)
    for name in named | set(re.findall(r"--set ([\w.]+)=", TEXT)):
        node = values
        for part in name.split("."):
            assert part in node, name
            node = node[part]
    templates = "".join(file.read_text() for file in (CHART.parent / "templates").rglob("*.*"))
    for component in set(re.findall(r"component=(\w+)", TEXT)):
        assert f'"role" "{component}"' in templates, component
