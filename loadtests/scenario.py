"""A scenario: one question about a server, the load that answers it, and the threshold. Read from a small YAML file.

Times are written `500ms`, `2s`, `2m`, or as seconds. A mistyped name is refused with the nearest right one.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from loadtests import arrivals, traces, workloads
from loadtests.arrivals import Pattern, Window
from loadtests.durations import Seconds, seconds
from loadtests.metrics import WHOLE, Kind
from loadtests.traces import Call
from loadtests.workloads import Workload

FOLDER = Path(__file__).parent / "scenarios"


class ScenarioError(Exception):
    """The scenario cannot be run as it is written; the message says what to change."""


@dataclass(frozen=True)
class Objective:
    """What a good request is, and how many of those offered must be good. accepts: outcomes that may count as good."""

    attainment: float = 0.99
    ttft: Seconds | None = None
    tpot: Seconds | None = None
    e2e: Seconds | None = None
    accepts: frozenset[Kind] = WHOLE

    def met_by(self, kind: Kind, ttft: float | None, tpot: float | None, e2e: float) -> bool:
        """Whether one request is good. A time that does not exist (one token has no TPOT) meets its limit."""
        if kind not in self.accepts:
            return False
        limits = ((ttft, self.ttft), (tpot, self.tpot), (e2e, self.e2e))
        return all(time is None or limit is None or time <= limit for time, limit in limits)

    def __str__(self) -> str:
        limits = [(n, getattr(self, n)) for n in ("ttft", "tpot", "e2e")]
        told = [f"{name.upper()} ≤ {limit * 1000:g} ms" for name, limit in limits if limit is not None]
        if self.accepts != WHOLE:
            told.insert(0, "is " + " or ".join(sorted(self.accepts)))
        return " and ".join(told) or "ends whole"


@dataclass(frozen=True)
class Client:
    """How the callers of a flow behave.

    retry: after 429 and 503: `never`; `honour` waits as long as Retry-After says; `ignore` asks again at once. Until
    `patience` is over, all within one request of the report: the wait is the user's.
    leave_after: leaves after so many events. pause: a slow reader, so long between reads, with a small socket buffer.
    """

    retry: Literal["never", "honour", "ignore"] = "never"
    patience: Seconds = 60.0
    leave_after: int | None = None
    pause: Seconds = 0.0
    timeout: Seconds = 120.0
    tier: Literal["flex", "priority"] | None = None


@dataclass(frozen=True)
class Flow:
    """One kind of traffic. key: whose key it uses (`default`, `invalid`, or a name given with --tenant-key).

    judged: whether its objective decides on the scenario; a misbehaving flow is often only there.
    """

    name: str
    arrivals: Pattern
    workload: Workload
    objective: Objective = field(default_factory=Objective)
    client: Client = field(default_factory=Client)
    key: str = "default"
    judged: bool = True


@dataclass(frozen=True)
class Scenario:
    """needs: what must be so on the server for the answer to mean something, in words."""

    name: str
    question: str
    flows: tuple[Flow, ...]
    needs: str = ""
    warm_up: Seconds = 10.0
    measure: Seconds = 60.0
    drain: Seconds = 30.0

    @property
    def window(self) -> Window:
        return Window(self.warm_up, self.warm_up + self.measure, self.warm_up + self.measure + self.drain)

    @property
    def keys(self) -> set[str]:
        return {flow.key for flow in self.flows} - {"invalid"}

    def flow(self, name: str) -> Flow:
        return next(flow for flow in self.flows if flow.name == name)


PATTERNS: Mapping[str, type] = {
    "constant": arrivals.Renewal,
    "poisson": arrivals.Renewal,
    "gamma": arrivals.Renewal,
    "on_off": arrivals.OnOff,
    "ramp": arrivals.Ramp,
    "steps": arrivals.Steps,
    "day": arrivals.Day,
    "trace": arrivals.Replay,
    "once": arrivals.Once,
    "closed": arrivals.Closed,
}
WORKLOADS: Mapping[str, type] = {
    "chat": workloads.Chat,
    "record": workloads.Record,
    "shared": workloads.Shared,
    "conversation": workloads.Conversation,
    "extraction": workloads.Extraction,
    "batch": workloads.Batch,
}


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str, trace: Path | None = None) -> dict[str, Any]:
    """A shipped scenario by name, or one in a file, as plain values: with its trace, or with this one instead.

    Raises ScenarioError; TraceError when the trace is none.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    try:
        tree = yaml.safe_load(path.read_text())
    except OSError as error:
        near = difflib.get_close_matches(name, names(), 1)
        hint = f" Did you mean {near[0]}?" if near else " `python -m loadtests list` shows them all."
        raise ScenarioError(f"there is no scenario {name!r}.{hint}") from error
    except yaml.YAMLError as error:
        raise ScenarioError(f"{path} is no YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ScenarioError(f"{path} is no scenario")
    for flow in tree.get("flows") or ():
        pattern = flow.get("arrivals") or {}
        if pattern.get("kind") == "trace":
            file = trace or path.parent / pattern.pop("file", "")
            pattern.pop("file", None)
            pattern["calls"] = [list(astuple(call)) for call in traces.read(file)]
    return {"name": path.stem} | tree


def parse(tree: Mapping[str, Any]) -> Scenario:
    """Raises ScenarioError."""
    tree = dict(tree)
    flows = tuple(_flow(flow) for flow in tree.pop("flows", ()))
    if not flows:
        raise ScenarioError("a scenario needs at least one flow")
    if len({flow.name for flow in flows}) < len(flows):
        raise ScenarioError("two flows have the same name")
    return typing.cast(Scenario, _made(Scenario, tree | {"flows": flows}, "the scenario"))


def _flow(tree: Mapping[str, Any]) -> Flow:
    where = f"flow {tree.get('name', '?')!r}"
    tree = dict(tree)
    pattern = dict(tree.pop("arrivals", {}))
    kind = pattern.pop("kind", "poisson")
    match kind:
        case "constant":
            pattern["cv"] = 0.0
        case "gamma" if "cv" not in pattern:
            raise ScenarioError(f"{where}: gamma arrivals need a cv")
    tree["arrivals"] = _chosen(PATTERNS, kind, pattern, f"{where}, arrivals")
    workload = dict(tree.pop("workload", {}))
    tree["workload"] = _chosen(WORKLOADS, workload.pop("kind", "chat"), workload, f"{where}, workload")
    for name, type_ in (("objective", Objective), ("client", Client)):
        if name in tree:
            tree[name] = _made(type_, tree[name], f"{where}, {name}")
    return typing.cast(Flow, _made(Flow, tree, where))


def _chosen(kinds: Mapping[str, type], kind: str, fields: dict[str, Any], where: str) -> Any:
    if kind not in kinds:
        raise ScenarioError(f"{where}: unknown kind {kind!r}{_nearest(kind, kinds)}")
    return _made(kinds[kind], fields, where)


def _made(type_: type, fields: Mapping[str, Any], where: str) -> Any:
    """An object of this dataclass, with YAML's values turned into the fields' types."""
    known = {f.name: f for f in dataclasses.fields(type_)}
    for name in fields:
        if name not in known:
            raise ScenarioError(f"{where}: unknown field {name!r}{_nearest(name, known)}")
    hints = typing.get_type_hints(type_, include_extras=True)
    try:
        return type_(**{name: _value(hints[name], value) for name, value in fields.items()})
    except (TypeError, ValueError) as error:
        raise ScenarioError(f"{where}: {error}") from error


def _value(hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return None if value is None else _value(next(t for t in typing.get_args(hint) if t is not type(None)), value)
    origin = typing.get_origin(hint)
    if hint == Seconds:
        return seconds(value)
    if origin is Literal and value not in typing.get_args(hint):
        raise ValueError(f"{value!r} is none of {', '.join(map(str, typing.get_args(hint)))}")
    if origin is tuple and typing.get_args(hint)[0] is Call:
        return tuple(one if isinstance(one, Call) else Call(*one) for one in value)
    if origin is tuple:
        return tuple(_value(typing.get_args(hint)[0], one) for one in value)
    if origin is frozenset:
        kinds = frozenset(value)
        if unknown := kinds - set(typing.get_args(Kind)):
            raise ValueError(f"there is no outcome {min(unknown)!r}")
        return kinds
    if hint in (float, int) and not (isinstance(value, int | float) and not isinstance(value, bool)):
        raise ValueError(f"{value!r} is no number")
    return value


def _nearest(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
