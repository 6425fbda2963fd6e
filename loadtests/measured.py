"""What all workers measured, merged: tallies, a row for each request, the client's own health, the server's gauges."""

import csv
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from loadtests.metrics import Histogram, Row, Tallies, Tally
from loadtests.plan import Plan
from loadtests.scenario import Scenario

FILE, ROWS_FILE = "measured.json", "requests.csv"


@dataclass
class Worker:
    """A load generator's own health. cpu: cores, over the measured window. loop_lag: how late its event loop was."""

    in_flight: int = 0
    cpu: float = 0.0
    loop_lag: Histogram = field(default_factory=Histogram)
    done: bool = False


@dataclass
class Measured:
    """expected: how many workers were given a share. begin: Unix time of the run's zero."""

    plan: Plan
    expected: int
    begin: float
    tallies: Tallies = field(default_factory=Tallies)
    rows: list[Row] = field(default_factory=list)
    workers: dict[int, Worker] = field(default_factory=dict)
    server: list[dict[str, float]] = field(default_factory=list)
    failure: str = ""  # a mistake in the harness itself: the run is to end at once

    @property
    def complete(self) -> bool:
        """Every worker said that it was done."""
        return len(self.workers) == self.expected and all(worker.done for worker in self.workers.values())

    def take(self, message: Mapping[str, Any]) -> None:
        """One worker's news: what it measured since its last message, and how it is."""
        self.tallies.merge(Tallies.unpacked(message["tallies"]))
        self.rows += [Row(*values) for values in message["rows"]]
        worker = self.workers.setdefault(message["index"], Worker())
        worker.in_flight, worker.cpu = message["in_flight"], message["cpu"]
        worker.loop_lag = Histogram.unpacked(message["loop_lag"])
        worker.done = worker.done or message["done"]
        self.failure = self.failure or message["failure"]

    def progress(self, now: float, scenario: Scenario) -> str:
        """Where the run is, as one line; overwrites itself on a terminal."""
        window, tally = scenario.window, self.tallies.sum()
        in_flight = sum(worker.in_flight for worker in self.workers.values())
        if now < window.start:
            told = f"warming up, {max(0.0, window.start - now):.0f} s left, {in_flight} in flight"
        else:
            phase = f"{window.end - now:4.0f} s left" if now < window.end else "waiting for the last"
            told = f"{phase}, {in_flight} in flight, {in_flight + tally.offered} offered{brief(tally)}"
        line = f"{scenario.name}: {told}"
        return f"\r\x1b[K{line}" if sys.stdout.isatty() else f"{line}\n"

    def write(self, folder: Path) -> None:
        data = {
            "plan": self.plan.packed(),
            "expected": self.expected,
            "begin": self.begin,
            "complete": self.complete,
            "tallies": self.tallies.packed(),
            "server": self.server,
            "workers": [
                {"cpu": worker.cpu, "loop_lag": worker.loop_lag.packed(), "done": worker.done}
                for _, worker in sorted(self.workers.items())
            ],
        }
        (folder / FILE).write_text(json.dumps(data))
        with (folder / ROWS_FILE).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(Row.__slots__)
            for row in sorted(self.rows, key=lambda row: row.intended):
                writer.writerow(["" if (v := getattr(row, name)) is None else _short(v) for name in Row.__slots__])

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What `write` wrote."""
        data = json.loads((folder / FILE).read_text())
        measured = cls(Plan.unpacked(data["plan"]), data["expected"], data["begin"], server=data["server"])
        measured.tallies = Tallies.unpacked(data["tallies"])
        for index, worker in enumerate(data["workers"]):
            measured.workers[index] = Worker(0, worker["cpu"], Histogram.unpacked(worker["loop_lag"]), worker["done"])
        with (folder / ROWS_FILE).open(newline="") as file:
            measured.rows = [_row(values) for values in csv.DictReader(file)]
        return measured


def brief(tally: Tally) -> str:
    if not tally.offered:
        return ""
    ttft = tally.times["ttft"]
    times = f", TTFT {1000 * ttft.percentile(0.5):.0f} / {1000 * ttft.percentile(0.99):.0f} ms" if ttft.count else ""
    return f", {tally.attainment:.1%} good{times}"


def _short(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def _row(values: Mapping[str, str]) -> Row:
    made: dict[str, Any] = dict(values)
    for name in ("number", "status", "attempts", "prompt_tokens", "answer_tokens", "frames"):
        made[name] = int(values[name])
    for name in ("intended", "sent", "first", "end", "stall"):
        made[name] = float(values[name]) if values[name] else None
    for name in ("good", "measured"):
        made[name] = values[name] == "True"
    return Row(**made)
