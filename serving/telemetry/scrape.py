"""A scrape of /metrics read again, for those who watch a server: what its series say, and how they have grown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

Series = tuple[str, frozenset[tuple[str, str]]]


class Scrape:
    """values: by name and labels, as in the text."""

    def __init__(self, values: Mapping[Series, float]) -> None:
        self._values = values

    @classmethod
    def of(cls, text: str) -> Scrape:
        """Raises ValueError for what is no scrape."""
        families = text_string_to_metric_families(text)
        return cls({(one.name, frozenset(one.labels.items())): one.value for f in families for one in f.samples})

    def since(self, earlier: Scrape) -> Scrape:
        """The growth of each series. What has fallen began anew, with its process: all of it is growth."""
        grown = {}
        for series, value in self._values.items():
            before = earlier._values.get(series, 0.0)
            grown[series] = value - before if value >= before else value
        return Scrape(grown)

    def by(self, label: str, name: str, **where: str) -> dict[str, float]:
        """The series of this name and with these labels, summed up by another label."""
        sums: dict[str, float] = defaultdict(float)
        for (known, labels), value in self._values.items():
            if known == name and labels >= where.items():
                sums[dict(labels).get(label, "")] += value
        return dict(sums)

    def highest(self, label: str, name: str) -> dict[str, float]:
        """The largest of the series of this name, by a label: of a share, which does not add up over processes."""
        found: dict[str, float] = {}
        for (known, labels), value in self._values.items():
            if known == name:
                of = dict(labels).get(label, "")
                found[of] = max(value, found.get(of, value))
        return found

    def quantile(self, share: float, name: str, **where: str) -> float | None:
        """Of a histogram, between the bounds of a bucket as Prometheus does it; None without an observation."""
        buckets = sorted((float(le), count) for le, count in self.by("le", f"{name}_bucket", **where).items())
        if not buckets or not buckets[-1][1]:
            return None
        rank = share * buckets[-1][1]
        for (low, below), (high, count) in pairwise([(0.0, 0.0), *buckets]):
            if count >= rank:
                return low if high == float("inf") else low + (high - low) * (rank - below) / ((count - below) or 1.0)
        return None
