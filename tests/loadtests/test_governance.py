"""The governance bench without a server: its arithmetic and its flags."""

from __future__ import annotations

import pytest

from loadtests.governance.__main__ import added, arguments


def test_what_is_added_is_the_difference_of_medians_and_lies_in_its_interval() -> None:
    off = [0.001 + 0.00001 * (n % 7) for n in range(300)]
    result = added({"off": off, "on": [seconds + 0.0005 for seconds in off]})
    assert result["p50_ms"] == pytest.approx(0.5) and result["p95_ms"] == pytest.approx(0.5)
    assert result["p50_low_ms"] <= result["p50_ms"] <= result["p50_high_ms"]


def test_counts_below_one_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["--requests", "0"])
    assert "at least 1" in capsys.readouterr().err
