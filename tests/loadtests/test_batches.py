"""The batch drill without a server: its arithmetic and its flags."""

from __future__ import annotations

import json

import pytest

from loadtests.batches.__main__ import arguments, ratio_of
from loadtests.batches.lines import Outcome, lines_of, verdict


def row(number: int, text: str = "a") -> str:
    body = {"choices": [{"finish_reason": "stop", "message": {"content": text}}]}
    response = {"status_code": 200, "request_id": f"req_{number}", "body": body}
    return json.dumps({"custom_id": f"note-{number}", "response": response, "error": None})


def record(number: int, outcome: str = "ok") -> dict[str, str]:
    return {"id": f"req_{number}", "outcome": outcome}


def test_the_lines_are_the_same_in_every_run_and_ask_for_one_answer_each() -> None:
    content = lines_of(50, "m", tokens=8, seed=1)
    assert content == lines_of(50, "m", tokens=8, seed=1) != lines_of(50, "m", tokens=8, seed=2)
    lines = [json.loads(line) for line in content.splitlines()]
    assert len({line["custom_id"] for line in lines}) == 50
    assert all(line["body"]["temperature"] == 0 and line["body"]["max_tokens"] == 8 for line in lines)


def test_a_run_in_which_nothing_happened_holds() -> None:
    outcome = Outcome.of("\n".join(map(row, range(3))), "")
    found = verdict(outcome, outcome, 3, map(record, range(3)))
    assert found.every_line_once and (found.different, found.lost, found.again) == (0, 0, 0)


def test_each_thing_that_can_go_wrong_is_counted() -> None:
    reference = Outcome.of("\n".join(map(row, range(4))), "")
    outcome = Outcome.of("\n".join([row(0), row(0), row(1, "b")]), row(2))
    found = verdict(outcome, reference, 4, [record(0), record(8), record(9, "client_left")])
    assert (found.missing, found.doubled, found.failed, found.different) == (1, 1, 1, 3)
    assert (found.lost, found.again) == (1, 1)
    assert not found.every_line_once


def test_the_ratio_is_of_all_rounds_together() -> None:
    without, with_ = [[0.1] * 50, [0.1] * 50], [[0.1] * 50, [0.2] * 50]
    assert ratio_of({"without": without, "with": with_}) == pytest.approx(2.0)


def test_counts_below_one_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["--lines", "0"])
    assert "at least 1" in capsys.readouterr().err
