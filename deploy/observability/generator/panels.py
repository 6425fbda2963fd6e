"""What Grafana dashboards are made of: panels in rows, as dictionaries in Grafana's own shape."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_COLUMNS = 24
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
RATE = "$__rate_interval"
Json = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """legend: how each line is called, with labels in {{}}. exemplars: show the traces behind a histogram."""

    expr: str
    legend: str = ""
    exemplars: bool = False


@dataclass(frozen=True)
class Panel:
    """about: the question that it answers. limit: a line across it, such as an SLO. steps: colours from these values
    on, beginning with green.
    """

    title: str
    about: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    unit: str = "short"
    width: int = 12
    height: int = 8
    limit: float | None = None
    stacked: bool = False
    steps: tuple[tuple[float, str], ...] = ()
    top: float | None = None
    options: Json = field(default_factory=dict)

    def at(self, number: int, x: int, y: int) -> Json:
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.about,
            "datasource": _SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "targets": [self._target(place, query) for place, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": self._options(),
        }

    def _target(self, place: int, query: Query) -> Json:
        target = {"refId": chr(ord("A") + place), "expr": query.expr, "legendFormat": query.legend or "__auto"}
        if self.kind == "table":
            target |= {"instant": True, "format": "table"}
        elif self.kind in ("stat", "bargauge", "piechart"):
            target |= {"instant": True}
        return target | ({"exemplar": True} if query.exemplars else {})

    def _defaults(self) -> Json:
        steps = [{"value": None, "color": "green"}]
        steps += [{"value": value, "color": colour} for value, colour in self.steps]
        if self.limit is not None:
            steps.append({"value": self.limit, "color": "red"})
        defaults: Json = {"unit": self.unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}}
        if self.top is not None:
            defaults["max"] = self.top
        if self.kind == "timeseries":
            defaults["custom"] = {
                "lineWidth": 2,
                "fillOpacity": 60 if self.stacked else 8,
                "showPoints": "never",
                "spanNulls": True,
                "stacking": {"mode": "normal" if self.stacked else "none"},
                "thresholdsStyle": {"mode": "dashed" if self.limit is not None else "off"},
            }
        return defaults

    def _options(self) -> Json:
        if self.kind == "timeseries":
            legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}} | self.options
        if self.kind == "stat":
            reduce = {"calcs": ["lastNotNull"], "values": False}
            return {"reduceOptions": reduce, "colorMode": "value", "graphMode": "none"} | self.options
        if self.kind == "bargauge":
            reduce = {"calcs": ["lastNotNull"], "values": False}
            return {"reduceOptions": reduce, "orientation": "horizontal", "displayMode": "basic"} | self.options
        return self.options


@dataclass(frozen=True)
class Variable:
    """A choice at the top: the values of a label of a metric."""

    name: str
    metric: str
    label: str

    def json(self) -> Json:
        return {
            "name": self.name,
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": f"label_values({self.metric}, {self.label})", "refId": self.name},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        }


def dashboard(uid: str, title: str, about: str, *, variables: list[Variable], rows: list[list[Panel]]) -> Json:
    """Rows from the top; the panels of one stand beside each other."""
    panels, y = [], 0
    for row in rows:
        x = 0
        assert sum(panel.width for panel in row) == _COLUMNS, [panel.title for panel in row]
        for panel in row:
            panels.append(panel.at(len(panels) + 1, x, y))
            x += panel.width
        y += max(panel.height for panel in row)
    source = {
        "name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus",
        "current": {"text": "Prometheus", "value": "clinserve"},
    }  # fmt: skip
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["clinserve"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [source, *(variable.json() for variable in variables)]},
        "links": [
            {"type": "dashboards", "tags": ["clinserve"], "asDropdown": False, "keepTime": True, "title": "clinserve"}
        ],
        "panels": panels,
    }


def quantile(q: float, histogram: str, selector: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({histogram}_bucket{{{selector}}}[{RATE}])))"


def quantiles(histogram: str, selector: str) -> tuple[Query, ...]:
    return tuple(
        Query(quantile(q, histogram, selector), f"p{round(q * 100)}", exemplars=q == 0.5) for q in (0.5, 0.95, 0.99)
    )


def rate(counter: str, selector: str, by: str) -> str:
    return f"sum by ({by}) (rate({counter}{{{selector}}}[{RATE}]))"
