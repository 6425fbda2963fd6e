"""What the load tests read off the server's own page of metrics."""

from loadtests.watch import gauges_in

PAGE = """\
# TYPE clinserve_scaling_replicas gauge
clinserve_scaling_replicas{deployment="a",state="running"} 2.0
clinserve_scaling_replicas{deployment="b",state="running"} 1.0
clinserve_scaling_replicas{deployment="a",state="target"} 4.0
clinserve_requests_in_flight{deployment="a"} 7
clinserve_requests_in_flight{deployment="b"} 1.5
"""


def test_series_are_added_up_and_replicas_are_those_that_run() -> None:
    assert gauges_in(PAGE) == {"replicas": 3.0, "in_flight": 8.5}


def test_a_page_without_them_shows_nothing() -> None:
    assert gauges_in("<html></html>") == {}
