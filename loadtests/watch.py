"""Looks at the server's own gauges once a second, where it shows them: the other side of the picture in the report."""

import re
import time
from collections.abc import Mapping
from typing import Any

import gevent
from geventhttpclient import HTTPClient
from geventhttpclient._parser import HTTPParseError

from loadtests.metrics_page import metrics_page

GAUGES: Mapping[str, tuple[str, ...]] = {
    "in_flight": ("clinserve_requests_in_flight", "vllm:num_requests_running"),
    "waiting": ("vllm:num_requests_waiting",),
    "replicas": ('clinserve_scaling_replicas{state="running"}', "ray_serve_deployment_replicas"),
}
"""For each line of the plot, metrics that show it, the preferred one first. All series of it are added up, or those
with the label that is named.
"""


class Watch:
    """base: the server; url: its metrics page, by default where clinserve has it, on this machine, or base + /metrics.
    Silent where there is none.
    """

    def __init__(self, base: str, url: str, begin: float) -> None:
        self._url = url or metrics_page(base)
        self._begin = begin
        self._http = HTTPClient.from_url(self._url, concurrency=1, connection_timeout=2, network_timeout=2)
        self._path = "/" + self._url.split("/", 3)[3]
        self.samples: list[dict[str, float]] = []
        self._misses = 0

    def look(self) -> None:
        """Take one sample; gives up on a server that three times in a row showed nothing."""
        if self._misses >= 3:
            return
        try:
            with gevent.Timeout(2, OSError("no answer")):
                response = self._http.request("GET", self._path)
                page = bytes(response.read()).decode() if response.status_code == 200 else ""
        except (OSError, HTTPParseError, ValueError):
            page = ""
        found = gauges_in(page)
        self._misses = 0 if found else self._misses + 1
        if found:
            self.samples.append({"at": time.time() - self._begin} | found)


def gauges_in(page: str) -> dict[str, float]:
    """What a Prometheus page says about the gauges that we plot."""
    sums: dict[str, float] = {}
    for name, labels, value in re.findall(r"^([a-zA-Z_:]+)(?:\{([^}]*)\})? ([0-9.eE+-]+)", page, re.MULTILINE):
        for key in (name, *(f"{name}{{{label}}}" for label in labels.split(",") if label)):
            sums[key] = sums.get(key, 0.0) + float(value)
    found: dict[str, Any] = {}
    for line, names in GAUGES.items():
        shown = next((name for name in names if name in sums), None)
        if shown:
            found[line] = sums[shown]
    return found
