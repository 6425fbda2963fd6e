"""A scrape read again: what its series say, and how they have grown."""

from __future__ import annotations

import pytest

from serving.telemetry.metrics import PrometheusMetrics
from serving.telemetry.record import RequestRecord
from serving.telemetry.scrape import Scrape

BEFORE = 'hits_total{who="a",how="x"} 5\nhits_total{who="a",how="y"} 1\nhits_total{who="b",how="x"} 9\n'
AFTER = 'hits_total{who="a",how="x"} 7\nhits_total{who="b",how="x"} 4\nhits_total{who="c",how="x"} 3\n'


def test_series_are_summed_by_a_label() -> None:
    before = Scrape.of(BEFORE)
    assert before.by("who", "hits_total") == {"a": 6, "b": 9}
    assert before.by("who", "hits_total", how="y") == {"a": 1}
    assert before.by("who", "misses_total") == {}


def test_growth_is_of_each_series_and_one_that_fell_began_anew() -> None:
    assert Scrape.of(AFTER).since(Scrape.of(BEFORE)).by("who", "hits_total") == {"a": 2, "b": 4, "c": 3}


def test_a_quantile_lies_between_the_bounds_of_its_bucket() -> None:
    scrape = Scrape.of(
        't_bucket{le="0.1"} 0\nt_bucket{le="0.2"} 50\nt_bucket{le="0.4"} 100\nt_bucket{le="+Inf"} 100\nt_count 100\n'
    )
    assert scrape.quantile(0.5, "t") == pytest.approx(0.2)
    assert scrape.quantile(0.75, "t") == pytest.approx(0.3)
    assert scrape.quantile(0.5, "u") is None


def test_what_is_beyond_the_last_bound_is_at_that_bound() -> None:
    assert Scrape.of('t_bucket{le="1"} 0\nt_bucket{le="+Inf"} 3\n').quantile(0.5, "t") == 1.0


def test_our_own_metrics_are_read_back() -> None:
    metrics = PrometheusMetrics()
    record = RequestRecord(request_id="req_1", method="POST")
    record.about("notes", "chat", stream=True, revision="")
    record.completion_tokens = 7
    metrics.finished(record)
    scrape = Scrape.of(metrics.scrape()[0].decode())
    assert scrape.by("deployment", "clinserve_tokens_total", type="completion") == {"notes": 7}


def test_what_is_no_scrape_is_refused() -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the parser's own
        Scrape.of("<html>no metrics</html>")
