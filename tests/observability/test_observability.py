"""Rules, dashboards and `make observe`, by the tools that read them: promtool, Prometheus, and a live gateway."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog import encoder, plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from serving.deployments.environment import free_ports
from serving.telemetry.metrics import PrometheusMetrics
from tests.conftest import OpenSite
from tests.local import chat, listening
from tests.observability.prometheus import FOLDER, ROOT, expressions, metrics_in, prometheus, tool
from tests.observability.test_telemetry_page import azure
from tests.scaling.fleets import TOLD, ToldFleet
from tests.telemetry.otlp_receiver import receiving

BOARDS = sorted((FOLDER / "dashboards").glob("*.json"))
RULES = sorted((FOLDER / "rules").glob("*.yml"))


def rules() -> list[dict[str, str]]:
    return [rule for file in RULES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def test_promtool_finds_no_fault_in_configuration_and_rules() -> None:
    subprocess.run([tool("promtool"), "check", "config", FOLDER / "prometheus.yml"], check=True)
    subprocess.run([tool("promtool"), "check", "rules", *RULES], check=True)


def test_promtool_finds_no_fault_in_any_expression_of_the_dashboards_and_of_the_page(tmp_path: Path) -> None:
    exprs = [expr for _, expr in expressions()] + list(azure().values())
    assert len(exprs) > 50
    named = [{"record": f"shown:{number}", "expr": expr} for number, expr in enumerate(exprs)]
    (tmp_path / "shown.yml").write_text(yaml.safe_dump({"groups": [{"name": "shown", "rules": named}]}))
    subprocess.run([tool("promtool"), "check", "rules", "--lint-fatal", tmp_path / "shown.yml"], check=True)


def test_the_alerts_come_and_go_as_their_own_tests_say() -> None:
    files = sorted((FOLDER / "tests").glob("*.yml"))
    done = subprocess.run([tool("promtool"), "test", "rules", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_test_a_severity_and_says_where_to_look() -> None:
    tested = "".join(file.read_text() for file in (FOLDER / "tests").glob("*.yml"))
    for alert in (rule for rule in rules() if "alert" in rule):
        assert f"alertname: {alert['alert']}\n" in tested, alert["alert"]
        assert alert["labels"]["severity"] in ("page", "ticket")  # type: ignore[index]
        assert alert["annotations"].keys() == {"summary", "see"}  # type: ignore[attr-defined]


def test_what_an_alert_tells_one_to_look_at_exists() -> None:
    titles = {panel["title"] for board in BOARDS for panel in json.loads(board.read_text())["panels"]}
    names = {json.loads(board.read_text())["title"].removeprefix("clinserve: ") for board in BOARDS}
    for alert in (rule for rule in rules() if "alert" in rule):
        see = alert["annotations"]["see"]  # type: ignore[index]
        assert set(re.findall(r"[Dd]ashboard (\w+)", see)) <= names, see
        assert all(any(title.startswith(said) for title in titles) for said in re.findall(r"`([^`]+)`", see)), see
        assert all((ROOT / page).exists() for page in re.findall(r"docs/\w+\.md", see)), see


def test_the_dashboards_are_what_their_generator_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, FOLDER / "generator", tmp_path], check=True)
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {b.name: b.read_text() for b in BOARDS}


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_grafanas_own_model_of_a_dashboard_knows_every_field_of_ours(board: Path) -> None:
    """It is made from Grafana's schemas, and drops what it does not know."""
    plugins.register_default_plugins()
    ours = json.loads(board.read_text())
    understood = json.loads(json.dumps(Dashboard.from_json(ours), cls=encoder.JSONEncoder))
    assert list(lost(ours, understood)) == []


def lost(said: Any, understood: Any, place: str = "") -> Iterator[str]:
    """Where something that was said is not, or is otherwise, in what was understood."""
    if isinstance(said, dict) and isinstance(understood, dict):
        for name, value in said.items():
            yield from lost(value, understood.get(name), f"{place}.{name}")
    elif isinstance(said, list) and isinstance(understood, list) and len(said) == len(understood):
        for number, (one, other) in enumerate(zip(said, understood, strict=True)):
            yield from lost(one, other, f"{place}[{number}]")
    elif said != understood:
        yield place


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_every_panel_has_a_place_of_its_own_and_a_question(board: Path) -> None:
    panels = json.loads(board.read_text())["panels"]
    places = [(x, y) for p in panels for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
              for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])]  # fmt: skip
    assert len(set(places)) == len(places) and max(x for x, _ in places) == 23
    assert all(panel["description"] and panel["targets"] for panel in panels)
    assert len(panels) <= 14, "few panels: more are not looked at"


def test_rules_and_dashboards_name_only_metrics_that_exist() -> None:
    """vLLM's are checked on real vLLM, in tests/e2e/test_observed.py."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    ours = {sample for family in PrometheusMetrics().families() for sample in samples_of(family.name, family.type)}
    read = {name for _, expr in expressions() for name in metrics_in(expr)}
    read |= {name for rule in rules() for name in metrics_in(rule["expr"])}
    assert len(read) > 30
    assert {name for name in read if not name.startswith("vllm:")} - ours - recorded == {"up"}


def samples_of(family: str, kind: str) -> set[str]:
    if kind == "histogram":
        return {f"{family}_{part}" for part in ("bucket", "sum", "count")}
    return {f"{family}_total" if kind == "counter" else family}


SILENT = {
    "service: Requests that went elsewhere, or had to be made safe",
    "tenants: Requests that were limited (429)",
    "cost: Prompt tokens that the KV cache held",
}
"""Nothing spills here, nothing is guarded, nobody is limited, and the echo engine has no cache."""


NAMELESS = {"AzureOpenAIContextTokensCacheMatchRate", "RAIRejectedRequests", "IsSpillover (dimension)"}


async def test_on_a_live_gateway_every_panel_shows_something_and_slow_buckets_lead_to_traces(
    site: OpenSite, tmp_path: Path
) -> None:
    with receiving() as receiver:
        priced = {"name": "echo", "price": {"prompt": 10, "completion": 20},
                  "engine": {"kind": "echo", "failures": [{"when": "BREAK", "action": "die", "after": 1}]}}  # fmt: skip
        (port,) = free_ports(1)
        telemetry = {"request_log": "file", "traces": {"otlp": receiver.url}, "metrics_port": port}
        open_site = site(deployments=[priced], telemetry=telemetry, fleet=ToldFleet({"echo": TOLD}))
        with listening(open_site.app) as url, prometheus(f"127.0.0.1:{port}", tmp_path) as asked:
            asked.wait_for('up{job="clinserve"} == 1')
            async with open_site.client(url) as client:
                end = time.monotonic() + 4
                while time.monotonic() < end:  # rates need several scrapes
                    for text in ("one two", "a BREAK b"):
                        await client.post("/v1/chat/completions", json=chat(text, stream=True))
                    await client.post("/v1/chat/completions", json=chat(n=1000))
            ours = [(title, expr) for title, expr in expressions() if not title.startswith("engine")]
            assert {title for title, expr in ours if not asked.ask(expr)} <= SILENT
            assert {name for name, expr in azure().items() if "vllm:" not in expr and not asked.ask(expr)} <= NAMELESS
            (ratio,) = asked.wait_for('clinserve:failed:ratio_rate5m{deployment="echo"}')
            assert 0.4 < float(ratio["value"][1]) < 0.6
            exemplars = asked.exemplars("gen_ai_server_time_to_first_token_seconds_bucket")
        known = {span.trace_id.hex() for _, span in receiver.spans}  # all have been sent: the gateway has closed
    assert exemplars
    assert {one["labels"]["trace_id"] for series in exemplars for one in series["exemplars"]} <= known


def test_observe_starts_prometheus_says_what_is_missing_and_stops_with_everything(tmp_path: Path) -> None:
    tool("prometheus")
    (port,) = free_ports(1)
    command = [
        sys.executable,
        FOLDER / "observe.py",
        "--port",
        "1",
        "--prometheus-port",
        str(port),
        "--state",
        tmp_path,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = [process.stdout.readline() for _ in range(3)]
        assert "Nothing answers at http://127.0.0.1:1465/metrics yet" in said[0]
        assert said[1].split() == ["Prometheus", f"http://127.0.0.1:{port}/alerts"]
        assert "rafana" in said[2]
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_observe_without_prometheus_says_how_to_get_it(tmp_path: Path) -> None:
    command = [sys.executable, FOLDER / "observe.py", "--state", tmp_path]
    done = subprocess.run(command, env={"PATH": "/nowhere"}, capture_output=True, text=True)
    assert done.returncode == 1 and "apt-get install prometheus" in done.stderr
