"""What docs/telemetry.md says is there: metrics, settings, panels, alerts, files; and Azure's names give numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from serving.settings import reference
from tests.conftest import settings_of
from tests.observability.prometheus import FOLDER, ROOT, metrics_in

PAGE = ROOT / "docs" / "telemetry.md"
TEXT = PAGE.read_text()
RULES = [
    rule
    for file in (FOLDER / "rules").glob("*.yml")
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
]


def azure() -> dict[str, str]:
    """Expressions by Azure's name."""
    table = TEXT.partition("<!-- azure -->")[2].partition("<!-- /azure -->")[0]
    rows = re.findall(r"^\| (\w[\w ()]*?) \| [\w ]*\| `(.*)` \|$", table, re.MULTILINE)
    assert len(rows) == table.count("\n") - 3 > 10
    return {name: expr.replace("\\|", "|") for name, expr in rows}


def test_every_metric_of_the_page_is_in_the_readmes_table_or_recorded_or_vllms() -> None:
    recorded = {rule.get("record") for rule in RULES}
    readme = (ROOT / "README.md").read_text()
    named = set(re.findall(r"`((?:clinserve[_:]|gen_ai_)[a-z0-9_:]+)`", TEXT))
    named |= {name for expr in azure().values() for name in metrics_in(expr)}
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named if not name.startswith("vllm:")}
    assert len(bare) > 7
    assert {name for name in bare - recorded if f"| `{name}` |" not in readme} == set()


def test_every_alert_is_on_the_page_and_every_panel_setting_and_file_of_the_page_exists() -> None:
    assert set(re.findall(r"`(Clinserve\w+)`", TEXT)) == {rule["alert"] for rule in RULES if "alert" in rule}
    titles = [panel["title"] for board in (FOLDER / "dashboards").glob("*.json")
              for panel in json.loads(board.read_text())["panels"]]  # fmt: skip
    said = re.findall(r"`([A-Z][^`]+)`", TEXT.partition("## What to look at")[2].partition("## Metrics")[0])
    assert len(said) > 15
    assert [
        name for name in said if not name.startswith("Clinserve") and not any(t.startswith(name) for t in titles)
    ] == []
    assert set(re.findall(r"`(telemetry(?:\.[a-z_]+)+)", TEXT)) <= {path for path, _, _ in reference()}
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", TEXT)
    assert links and [link for link in links if not (PAGE.parent / link).exists()] == []
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z]+)", TEXT)) <= set(targets)


def test_the_settings_of_the_page_are_valid(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    assert settings_of(tmp_path, **yaml.safe_load(block)).telemetry.traces.ratio == 0.1
