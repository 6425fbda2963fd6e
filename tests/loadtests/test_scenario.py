"""Scenarios: every shipped one is sound, mistakes are named, and a plan travels whole."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from loadtests import scenario
from loadtests.durations import seconds
from loadtests.plan import Overrides, Plan, Server
from loadtests.scenario import Objective, ScenarioError

SERVER = Server("http://127.0.0.1:8000/v1", "m", 2048, 1.3, forced=True)
CHAT = {"name": "chat", "arrivals": {"kind": "poisson", "rate": 4}}


def tree(**flow: Any) -> dict[str, Any]:
    return {"name": "x", "question": "?", "flows": [CHAT | flow]}


@pytest.mark.parametrize("name", scenario.names())
def test_a_shipped_scenario_asks_a_question_and_has_a_threshold(name: str) -> None:
    plan = Plan(scenario.load(name), SERVER, "1", Overrides())
    whole = Plan.unpacked(json.loads(json.dumps(plan.packed()))).resolved()
    assert whole.question.endswith(("?", ".)", ".")) and "?" in whole.question
    assert any(flow.judged and flow.objective.attainment > 0 for flow in whole.flows)
    assert whole.window.until <= 600


@pytest.mark.parametrize("name", scenario.names())
def test_a_shipped_scenario_stands_in_the_readme_with_its_question_and_its_last_answer(name: str) -> None:
    questions, _, answers = (Path(scenario.__file__).parent / "README.md").read_text().partition("## Last answers")
    assert f"\n| `{name}` | " in questions
    assert re.search(rf"\n\| `{name}` \| (MET|MISSED) \| .+ \| 20\d\d-\d\d-\d\d \| [0-9a-f]{{7}}\+? \|", answers)


@pytest.mark.parametrize(
    ("flow", "why"),
    [
        ({"arivals": {}}, "did you mean 'arrivals'"),
        ({"arrivals": {"kind": "poison"}}, "did you mean 'poisson'"),
        ({"arrivals": {"kind": "poisson", "rat": 4}}, "did you mean 'rate'"),
        ({"arrivals": {"kind": "poisson", "rate": "fast"}}, "no number"),
        ({"arrivals": {"kind": "gamma", "rate": 4}}, "need a cv"),
        ({"arrivals": {"kind": "poisson"}}, "rate"),
        ({"objective": {"ttft": "soon"}}, "no time"),
        ({"objective": {"accepts": ["fine"]}}, "no outcome 'fine'"),
        ({"client": {"retry": "always"}}, "never, honour, ignore"),
        ({"workload": {"kind": "chatt"}}, "did you mean 'chat'"),
    ],
)
def test_a_mistake_is_refused_with_its_place_and_a_hint(flow: dict[str, Any], why: str) -> None:
    with pytest.raises(ScenarioError, match=why) as refused:
        scenario.parse(tree(**flow))
    assert "chat" in str(refused.value)


def test_an_unknown_scenario_is_refused_with_the_nearest() -> None:
    with pytest.raises(ScenarioError, match="Did you mean chat"):
        scenario.load("chatt")


def test_two_flows_of_one_name_are_refused() -> None:
    with pytest.raises(ScenarioError, match="same name"):
        scenario.parse({"name": "x", "question": "?", "flows": [CHAT, CHAT]})


@pytest.mark.parametrize(("text", "value"), [("500ms", 0.5), ("2s", 2.0), ("1.5m", 90.0), (3, 3.0), ("1h", 3600.0)])
def test_times_are_written_with_units(text: str | int, value: float) -> None:
    assert seconds(text) == value


def test_a_rate_on_the_command_line_changes_all_flows_in_proportion() -> None:
    whole = scenario.parse(scenario.load("records"))
    faster = Overrides(rate=8).of(whole)
    assert [flow.arrivals.rate for flow in faster.flows] == [8, pytest.approx(1.2)]  # type: ignore[attr-defined]


def test_limits_on_the_command_line_are_the_first_flows() -> None:
    whole = Overrides(ttft=0.1, attainment=0.5, measure=5).of(scenario.parse(scenario.load("records")))
    assert (whole.flows[0].objective.ttft, whole.flows[0].objective.attainment) == (0.1, 0.5)
    assert whole.measure == 5 and whole.flows[1].objective.ttft == 10


def test_a_scenario_without_one_rate_cannot_be_given_one() -> None:
    with pytest.raises(ScenarioError, match="--scale"):
        Overrides(rate=5).of(scenario.parse(scenario.load("steps")))


def test_a_trace_travels_in_the_plan(tmp_path: Path) -> None:
    trace = tmp_path / "own.csv"
    trace.write_text("time,prompt,answer\n0,10,5\n1,20,6\n")
    loaded = scenario.load("trace", trace)
    trace.unlink()
    whole = Plan(loaded, SERVER, "1", Overrides()).resolved()
    assert [call.answer_tokens for call in whole.flows[0].arrivals.calls] == [5, 6]  # type: ignore[attr-defined]


def test_a_key_is_nowhere_in_a_plan() -> None:
    assert "key" not in json.dumps(Plan(scenario.load("chat"), SERVER, "1", Overrides()).packed()).lower()


@pytest.mark.parametrize(
    ("kind", "ttft", "tpot", "good"),
    [("ok", 0.4, 0.04, True), ("ok", 0.6, 0.04, False), ("ok", 0.4, 0.06, False), ("ok", 0.4, None, True),
     ("limited", None, None, False), ("broken", 0.1, 0.01, False)],
)  # fmt: skip
def test_good_is_whole_and_within_every_limit(kind: Any, ttft: float | None, tpot: float | None, good: bool) -> None:
    assert Objective(ttft=0.5, tpot=0.05).met_by(kind, ttft, tpot, 1.0) is good


def test_load_tests_are_a_black_box_but_for_the_rule_that_the_simulator_runs() -> None:
    folder = Path(scenario.__file__).parent
    sources = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.py")}
    imports = {
        (name, found[1])
        for name, source in sources.items()
        for found in re.finditer(r"^\s*(?:from|import) (serving[\w.]*)", source, re.MULTILINE)
    }
    assert {where.startswith("serving.scaling") and name.startswith("simulator/") for name, where in imports} == {True}
