"""A run's results as data: one summary that JSON, CSV, JUnit and the HTML report are all written from."""

import csv
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtests import slo
from loadtests.capacity import Capacity
from loadtests.measured import Measured
from loadtests.metrics import TIMES, Histogram, Tally
from loadtests.plan import Plan
from loadtests.runs import ROOT
from loadtests.scenario import Scenario
from loadtests.slo import Verdict

Tree = dict[str, Any]


def summary(scenario: Scenario, measured: Measured, verdict: Verdict) -> Tree:
    """Everything about a run but its single requests. Times are seconds; what was not measured is null."""
    return {
        "verdict": verdict.word,
        "status": verdict.status,
        "line": slo.line(scenario, measured, verdict),
        "scenario": scenario.name,
        "question": scenario.question,
        "measured_s": scenario.measure,
        "checks": [asdict(check) for check in verdict.checks],
        "total": figures(measured.tallies.sum(), scenario.measure),
        "flows": [row for flow in scenario.flows for row in _flow(flow.name, scenario, measured)],
        "fairness": _fairness(scenario, measured),
        "client": {
            "workers": len(measured.workers),
            "cpu": [_plain(worker.cpu) for _, worker in sorted(measured.workers.items())],
            "lag": times(measured.tallies.sum().times["lag"]),
            "loop_lag": times(slo.merged_loop_lag(measured)),
            "dropped": measured.tallies.sum().kinds["dropped"],
        },
        "plan": _brief(measured.plan),
        "begin": datetime.fromtimestamp(measured.begin, UTC).isoformat(timespec="seconds"),
        "machine": machine(),
    }


def _flow(name: str, scenario: Scenario, measured: Measured) -> list[Tree]:
    """A flow's figures: whole, then by label and by stage where it has several."""
    tallies, rows = measured.tallies, []
    whole = {"flow": name, "part": "", "tenant": scenario.flow(name).key}
    rows.append(whole | figures(tallies.sum(flow=name), scenario.measure))
    stages = [stage for stage in tallies.values("stage", name) if stage]
    for kind, values in (("label", tallies.values("label", name)), ("stage", stages)):
        if len(values) > 1:
            seconds = scenario.measure if kind == "label" else step_seconds(scenario, name)
            for value in sorted(values, key=_natural):
                rows.append(whole | {"part": value} | figures(tallies.sum(flow=name, **{kind: value}), seconds))
    return rows


def step_seconds(scenario: Scenario, flow: str) -> float:
    """How much of each step of a stepped schedule is measured."""
    pattern = scenario.flow(flow).arrivals
    rates, settle = getattr(pattern, "rates", (1,)), getattr(pattern, "settle", 0.0)
    return scenario.measure / len(rates) * (1 - settle)


def figures(tally: Tally, seconds: float) -> Tree:
    return {
        "offered": tally.offered,
        "offered_per_s": _plain(tally.offered / seconds),
        "good": tally.good,
        "attainment": _plain(tally.attainment),
        "goodput_per_s": _plain(tally.good / seconds),
        "good_tokens_per_s": _plain(tally.good_tokens / seconds),
        "tokens_per_s": _plain(tally.answer_tokens / seconds),
        "kinds": dict(tally.kinds),
        "prompt_tokens": _plain(tally.prompt_tokens / tally.kinds["ok"]) if tally.kinds["ok"] else None,
        "answer_tokens": _plain(tally.answer_tokens / tally.kinds["ok"]) if tally.kinds["ok"] else None,
        "events_per_token": _plain(tally.frames_per_token),
        "stalled": tally.stalled,
        "attempts_per_request": _plain(tally.attempts / tally.offered) if tally.offered else None,
        **{name: times(tally.times[name]) for name in TIMES},
    }


def times(histogram: Histogram) -> Tree:
    """Percentiles; those that rest on fewer than ten samples above them are null, for they would be chance."""
    shares = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
    told = {name: histogram.percentile(share) for name, share in shares.items()}
    return {
        "count": histogram.count,
        "mean": _plain(histogram.mean),
        **{name: _plain(value) for name, value in told.items()},
        "max": _plain(histogram.most) if histogram.counts else None,
        "thin": [name for name, share in shares.items() if histogram.count * (1 - share) < 10],
    }


def _fairness(scenario: Scenario, measured: Measured) -> Tree:
    shares = {tenant: measured.tallies.sum(tenant=tenant).attainment for tenant in measured.tallies.values("tenant")}
    shares.pop("invalid", None)
    return {"attainment": {t: _plain(s) for t, s in shares.items()}, "jain": _plain(slo.jain(list(shares.values())))}


def _brief(plan: Plan) -> Tree:
    """The plan without a trace's thousands of calls, which measured.json has."""
    packed = plan.packed()
    for flow in packed["scenario"]["flows"]:
        calls = flow.get("arrivals", {}).get("calls")
        if calls:
            flow["arrivals"]["calls"] = f"{len(calls)} calls"
    return packed


def machine() -> Tree:
    """Where the client ran, and with what."""
    packages = ("locust", "gevent", "geventhttpclient")
    return {
        "system": platform.platform(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "python": platform.python_version(),
        "commit": commit(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def commit() -> str:
    """Of this checkout, with a plus when files were changed since; empty outside a checkout."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=7", "--exclude=*"],
            cwd=ROOT, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.strip()


def write(folder: Path, result: Tree) -> None:
    """results.json, summary.csv and junit.xml. requests.csv is there already."""
    (folder / "results.json").write_text(json.dumps(result, indent=1))
    with (folder / "summary.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        columns = ("p50", "p95", "p99", "max")
        head = [
            "flow",
            "part",
            "tenant",
            "offered",
            "good",
            "attainment",
            "offered_per_s",
            "goodput_per_s",
            "tokens_per_s",
        ]
        writer.writerow([*head, *(f"{name}_{column}_s" for name in TIMES for column in columns)])
        for flow in result["flows"]:
            cells = [flow[name] for name in head]
            writer.writerow([*cells, *(flow[name][column] for name in TIMES for column in columns)])
    (folder / "junit.xml").write_bytes(junit(result))


def write_capacity(folder: Path, line: str, found: Capacity, tried: Sequence[Tree]) -> None:
    """results.json and rates.csv of a search."""
    whole = {"line": line, "capacity": asdict(found), "tried": list(tried), "machine": machine()}
    (folder / "results.json").write_text(json.dumps(whole, indent=1))
    with (folder / "rates.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["rate", "verdict", "attainment", "goodput_per_s", "ttft_p99_s", "tpot_p99_s"])
        for one in tried:
            f = one["figures"]
            cells = [f["attainment"], f["goodput_per_s"], f["ttft"]["p99"], f["tpot"]["p99"]]
            writer.writerow([one["rate"], one["verdict"], *cells])


def junit(result: Tree) -> bytes:
    """A test case for each check: a missed objective is a failure, a client that was too slow an error."""
    checks = result["checks"]
    bad = [check for check in checks if not check["holds"] and (check["kind"] != "doubt" or result["status"])]
    missed = sum(check["kind"] == "objective" for check in bad)
    suite = ET.Element(
        "testsuite", name=f"loadtests.{result['scenario']}", tests=str(len(checks)),
        failures=str(missed), errors=str(len(bad) - missed), time=str(result["measured_s"]),
        timestamp=result["begin"],
    )  # fmt: skip
    for check in checks:
        case = ET.SubElement(suite, "testcase", classname=check["subject"], name=check["what"])
        if check in bad:
            kind = "failure" if check["kind"] == "objective" else "error"
            ET.SubElement(case, kind, message=f"wanted {check['what']}, was {check['seen']}")
    return bytes(ET.tostring(suite, encoding="utf-8", xml_declaration=True))


def _plain(value: float) -> float | None:
    """JSON knows no nan."""
    return None if math.isnan(value) else round(value, 6)


def _natural(text: str) -> tuple[float, str]:
    head = text.split("/")[0]
    return (float(head), text) if head.replace(".", "", 1).isdigit() else (0.0, text)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
