"""The last traced request in each bucket of a histogram, by which a dashboard leads from a slow bucket to a trace.

prometheus_client keeps exemplars in one process only, and drops them where several share a directory. So they are kept
here, for both; those on a page are the answering process's own.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from serving.telemetry.traces import Trace

_Bucket = tuple[str, frozenset[tuple[str, str]]]
"""A family's name, and the labels with `le` among them."""


class Exemplars:
    """At most one for each bucket of each series."""

    def __init__(self) -> None:
        self._last: dict[_Bucket, Exemplar] = {}

    def keep(self, family: str, labels: dict[str, str], value: float, trace: Trace) -> None:
        ids = {"trace_id": trace.trace_id, "span_id": trace.span_id}
        self._last[family, frozenset(labels.items())] = Exemplar(ids, value, time.time())

    def added_to(self, families: Iterable[Metric]) -> Iterator[Metric]:
        for family in families:
            if family.type == "histogram":
                family.samples = [
                    sample._replace(exemplar=self._last.get((family.name, frozenset(sample.labels.items()))))
                    for sample in family.samples
                ]
            yield family


class TracedHistogram:
    """A histogram whose observations are of requests that may be traced."""

    def __init__(
        self,
        name: str,
        help: str,
        labels: tuple[str, ...],
        buckets: tuple[float, ...],
        *,
        registry: CollectorRegistry,
        exemplars: Exemplars,
    ) -> None:
        self._histogram = Histogram(name, help, labels, buckets=buckets, registry=registry)
        self._name = name
        self._labels = labels
        self._buckets = (*buckets, float("inf"))
        self._exemplars = exemplars

    def observe(self, labels: tuple[str, ...], value: float, trace: Trace) -> None:
        self._histogram.labels(*labels).observe(value)
        if trace.sampled:
            le = floatToGoString(self._buckets[bisect_left(self._buckets, value)])  # type: ignore[no-untyped-call]
            self._exemplars.keep(self._name, dict(zip(self._labels, labels, strict=True)) | {"le": le}, value, trace)
