"""The comparison of routings without a server: its conversations, its shares, its configuration."""

from __future__ import annotations

from pathlib import Path

import yaml
from rich.console import Console

from loadtests.routing.__main__ import RULES, arguments, configured, share, table
from loadtests.routing.conversations import Turn, conversations


def test_the_conversations_are_the_same_in_every_run_and_each_patient_is_asked_about_twice() -> None:
    made = conversations(1, patients=6, visits=2, turns=4, departments=3)
    assert made == conversations(1, patients=6, visits=2, turns=4, departments=3)
    assert len(made) == 12
    assert len({one.messages[0]["content"] for one in made}) == 3
    assert len({one.messages[1]["content"].split(".")[0] for one in made}) == 6
    assert {len(one.questions) for one in made} == {3}


def test_a_share_is_of_tokens_and_the_table_has_a_row_for_each() -> None:
    turns = [Turn(0, 0.2, 1000, 0), Turn(1, 0.1, 1000, 800), Turn(2, 0.1, 2000, 1600)]
    assert share(turns) == 0.6
    console = Console(width=200, record=True)
    console.print(table({"prefix": turns}))
    assert {"prefix", "60%", "80%", "1600"} <= set(console.export_text().split())


def test_the_configuration_is_the_demos_with_replicas_a_rule_and_small_caches(tmp_path: Path) -> None:
    for rule in RULES:
        file = configured(arguments(["--replicas", "3", "--cache", "50"]), rule, tmp_path)
        (deployment,) = yaml.safe_load(file.read_text())["deployments"]
        assert (deployment["routing"], deployment["replicas"]) == (rule, 3)
        assert deployment["engine"]["args"]["num_gpu_blocks_override"] == 50
        assert Path(deployment["model"]["source"]).is_dir()
