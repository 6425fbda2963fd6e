"""Which pictures a report has, and what is in them."""

from collections.abc import Iterable, Sequence

from loadtests import slo
from loadtests.measured import Measured
from loadtests.metrics import Row
from loadtests.plot import Axis, Line, Mark, chart
from loadtests.results import Tree, figures, step_seconds
from loadtests.scenario import Flow, Scenario

MOMENTS = 240
SLICES = 30
SERVER_LINES = (("in_flight", "in flight (server)"), ("waiting", "waiting (server)"), ("replicas", "replicas"))


def of_run(scenario: Scenario, measured: Measured) -> list[str]:
    """All charts of one run; those against rate only where a flow has several."""
    charts = [
        first_tokens(scenario, measured),
        in_flight(scenario, measured),
        first_tokens_over_time(scenario, measured),
        offered_and_good(scenario, measured),
    ]
    for flow in scenario.flows:
        stages = [stage for stage in measured.tallies.values("stage", flow.name) if stage]
        if len(stages) > 1:
            seconds = step_seconds(scenario, flow.name)
            tallies = [(stage, measured.tallies.sum(flow=flow.name, stage=stage)) for stage in stages]
            points = [(float(stage.split("/")[0]), figures(tally, seconds)) for stage, tally in tallies]
            charts += against_rate(flow, sorted(points, key=lambda point: point[0]))
    return charts


def first_tokens(scenario: Scenario, measured: Measured) -> str:
    lines, marks = [], {}
    for colour, flow in enumerate(scenario.flows):
        histogram = measured.tallies.sum(flow=flow.name).times["ttft"]
        lines.append(Line(flow.name, [(1000 * v, share) for v, share in histogram.curve()], colour, "step"))
        if flow.objective.ttft and histogram.counts:
            limit = 1000 * flow.objective.ttft
            marks[limit] = Mark("x", limit, f"objective {limit:g} ms")
    # As far as the data go, and the nearest objective: a far one would squeeze the curves.
    ends = [x for line in lines for x, _ in line.points[-1:]] + [1.1 * limit for limit in sorted(marks)[:1]]
    x = Axis("milliseconds from the intended time", log=True, high=max(ends, default=None))
    return chart("Time to first token", x, Axis("share of answers", 0, 1, percent=True), lines, list(marks.values()))


def in_flight(scenario: Scenario, measured: Measured) -> str:
    last = max([row.end for row in measured.rows], default=scenario.window.until)
    moments = [last * i / MOMENTS for i in range(MOMENTS + 1)]
    counts = slo.in_flight(measured.rows, moments)
    lines = [Line("in flight (client)", list(zip(moments, counts, strict=True)), 0, "step")]
    for colour, (name, told) in enumerate(SERVER_LINES, start=1):
        points = [(s["at"], s[name]) for s in measured.server if name in s and 0 <= s["at"] <= last]
        lines.append(Line(told, points, colour, "step"))
    return chart(
        "In flight and replicas", Axis("seconds", 0, last), Axis("requests, replicas", 0), lines, _window(scenario)
    )


def first_tokens_over_time(scenario: Scenario, measured: Measured) -> str:
    lines, marks = [], _window(scenario)
    judged = [flow for flow in scenario.flows if flow.judged]
    for colour, flow in enumerate(judged):
        answered = [row for row in measured.rows if row.flow == flow.name and row.ttft is not None]
        points = [(at, _percentiles(rows)) for at, rows in _slices(scenario, answered) if rows]
        lines.append(Line(f"{flow.name} p50", [(at, p50) for at, (p50, _) in points], colour))
        if len(judged) < 3:
            lines.append(Line(f"{flow.name} p95", [(at, p95) for at, (_, p95) in points], colour, "dashed"))
    limits = [1000 * flow.objective.ttft for flow in judged if flow.objective.ttft]
    marks += [Mark("y", min(limits), f"objective {min(limits):g} ms")] if limits else []
    return chart(
        "Time to first token, as time went by",
        Axis("seconds", 0, scenario.window.end),
        Axis("milliseconds", log=True),
        lines,
        marks,
    )


def offered_and_good(scenario: Scenario, measured: Measured) -> str:
    slices = _slices(scenario, measured.rows)
    width = slices[1][0] - slices[0][0]
    offered = [(at - width / 2, len(rows) / width) for at, rows in slices]
    good = [(at - width / 2, sum(row.good for row in rows) / width) for at, rows in slices]
    lines = [Line("offered", offered, 0, "step thick"), Line("of these good", good, 2, "step")]
    x, y = Axis("seconds", 0, scenario.window.end), Axis("requests a second", 0)
    return chart("Offered and good, by intended time", x, y, lines, _window(scenario))


def against_rate(flow: Flow, points: Sequence[tuple[float, Tree]]) -> list[str]:
    """What each rate did. points: rate, and its figures."""

    def curve(name: str, share: str, colour: int) -> Line:
        found = [(rate, 1000 * f[name][share]) for rate, f in points if f[name][share] is not None]
        return Line(f"{name.upper()} {share}", found, colour, "dots")

    limits = (("TTFT", flow.objective.ttft), ("TPOT", flow.objective.tpot))
    marks = [Mark("y", 1000 * limit, f"{name} objective {1000 * limit:g} ms") for name, limit in limits if limit]
    lines = [curve("ttft", "p50", 0), curve("ttft", "p99", 1), curve("tpot", "p50", 2), curve("tpot", "p99", 3)]
    rate = Axis("offered, requests a second", log=len(points) > 3)
    attained = [(at, f["attainment"]) for at, f in points if f["attainment"] is not None]
    wanted = [Mark("y", flow.objective.attainment, f"wanted {flow.objective.attainment:.1%}")]
    share = Axis("share good", 0, 1, percent=True)
    return [
        chart(f"Latency against rate: {flow.name}", rate, Axis("milliseconds", log=True), lines, marks),
        chart(f"Attainment against rate: {flow.name}", rate, share, [Line("good", attained, 2, "dots")], wanted),
    ]


def _slices(scenario: Scenario, rows: Iterable[Row]) -> list[tuple[float, list[Row]]]:
    """Rows by intended time, in slices named by their middles, from the begin to the window's end."""
    width = scenario.window.end / SLICES
    slices: list[tuple[float, list[Row]]] = [(width * (i + 0.5), []) for i in range(SLICES)]
    for row in rows:
        place = int(row.intended / width)
        if 0 <= place < SLICES:
            slices[place][1].append(row)
    return slices


def _percentiles(rows: Sequence[Row]) -> tuple[float, float]:
    times = sorted(1000 * row.ttft for row in rows if row.ttft is not None)
    return times[len(times) // 2], times[min(len(times) - 1, int(0.95 * len(times)))]


def _window(scenario: Scenario) -> list[Mark]:
    end = Mark("x", scenario.window.end, "end of window")
    return [Mark("x", scenario.window.start, "measured from here"), end] if scenario.warm_up else [end]
