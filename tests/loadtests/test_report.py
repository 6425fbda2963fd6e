"""What a run leaves behind: JSON, CSV, JUnit, and a page that needs nothing but itself."""

import csv
import json
import re
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from loadtests import answers, report, results, slo
from loadtests.measured import Measured
from loadtests.metrics import Histogram
from loadtests.plot import Axis, Line, Mark, chart
from tests.loadtests.test_slo import row, run_of, steady


def written(measured: Measured, folder: Path) -> results.Tree:
    """Everything, from what was written and read again."""
    measured.write(folder)
    again = Measured.read(folder)
    whole = again.plan.resolved()
    result = results.summary(whole, again, slo.judge(whole, again))
    results.write(folder, result)
    (folder / "report.html").write_text(report.page(whole, again, result))
    return result


def test_what_was_measured_survives_the_disk(tmp_path: Path) -> None:
    measured = run_of(steady(50))
    measured.write(tmp_path)
    again = Measured.read(tmp_path)
    assert [(r.kind, r.good, r.number) for r in again.rows] == [
        (r.kind, r.good, r.number) for r in sorted(measured.rows, key=lambda r: r.intended)
    ]
    assert again.tallies.packed() == measured.tallies.packed() and again.complete


def test_json_csv_and_junit_say_the_same(tmp_path: Path) -> None:
    written(run_of([*steady(), *(row(20 + i, kind="limited") for i in range(30))]), tmp_path)
    result = json.loads((tmp_path / "results.json").read_text())
    with (tmp_path / "summary.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert result["verdict"] == "MISSED" and result["total"]["kinds"] == {"ok": 300, "limited": 30}
    assert int(line["offered"]) == result["flows"][0]["offered"] == 330
    suite = ET.fromstring((tmp_path / "junit.xml").read_text())
    assert (suite.get("failures"), suite.get("errors")) == ("1", "0")
    with (tmp_path / "requests.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 330


def test_the_page_opens_with_the_verdict_and_fetches_nothing(tmp_path: Path) -> None:
    written(run_of(steady()), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.index("MET") < page.index("<svg") and page.count("<svg") == 4
    assert not re.search(r"<script|<link|@import|src=|url\(", page)


def test_names_in_a_page_are_escaped(tmp_path: Path) -> None:
    measured = run_of(steady())
    measured.plan.scenario["question"] = "<b>&?"  # type: ignore[index]
    written(measured, tmp_path)
    assert "<b>&?" not in (tmp_path / "report.html").read_text()


def test_a_percentile_that_rests_on_few_samples_is_marked() -> None:
    histogram = Histogram()
    for number in range(500):
        histogram.add(0.1 + number / 1000)
    assert results.times(histogram)["thin"] == ["p99", "p999"]


@pytest.mark.parametrize("log", [True, False])
def test_a_chart_keeps_its_curve_inside_its_axes(log: bool) -> None:
    svg = chart("t", Axis("x"), Axis("y", log=log), [Line("a", [(0, 3), (5, 700), (9, 12)])], [Mark("y", 900, "limit")])
    numbers = [float(n) for n in re.findall(r'd="M([\d. HVL]+)"', svg)[0].replace("L", " ").split()]
    assert all(62 <= x <= 622 for x in numbers[::2]) and all(34 <= y <= 254 for y in numbers[1::2])


def test_nothing_to_draw_is_said_in_words() -> None:
    assert "nothing was measured" in chart("t", Axis("x"), Axis("y"), [Line("a", [])])


def test_the_last_valid_answer_of_each_scenario_makes_a_row(tmp_path: Path) -> None:
    runs = {
        "20261101-a": steady(1000), "20261102-b": [row(20 + i / 10, kind="unreachable") for i in range(50)],
        "20261103-c": [*steady(50), *(row(20 + i, kind="dropped") for i in range(9))],
    }  # fmt: skip
    for day, (name, rows) in enumerate(runs.items(), start=1):
        measured = replace(run_of(rows), begin=datetime(2026, 11, day, tzinfo=UTC).timestamp())
        (tmp_path / name).mkdir()
        written(measured, tmp_path / name)
    (tmp_path / "capacity-chat").mkdir()
    (tmp_path / "capacity-chat" / "results.json").write_text('{"line": "MET", "tried": []}')
    told = answers.table(answers.last(tmp_path).values())
    *_, only = told.splitlines()
    assert told.count("\n| `") == 1 and re.search(r"MISSED \| \w+ 0 of 50 \| 2026-11-02 \|", only)
    shutil.rmtree(tmp_path / "20261102-b")
    *_, only = answers.table(answers.last(tmp_path).values()).splitlines()
    assert re.search(r"MET \| \w+ 1,000 of 1,000: TTFT p50 \d+, p99 \d+ \| 2026-11-01 \|", only)
