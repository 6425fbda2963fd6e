"""What one run does, resolved: a scenario, a server, a model. It travels to every worker as JSON; keys do not.

Keys travel in the environment (`KEYS`), so that they are neither in a command line nor in a file of results.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from loadtests import scenario, traces
from loadtests.arrivals import Replay
from loadtests.scenario import Scenario

KEYS = "LOADTESTS_KEYS"


@dataclass(frozen=True)
class Server:
    """What the probe found. forced: it takes min_tokens and ignore_eos, so answers have the length asked for."""

    url: str
    model: str
    context: int
    tokens_per_word: float
    forced: bool

    @property
    def base(self) -> str:
        """Without /v1."""
        return self.url.rstrip("/").removesuffix("/v1")

    @property
    def path(self) -> str:
        return urlsplit(self.base).path.rstrip("/")


@dataclass(frozen=True)
class Plan:
    """scenario: as `scenario.load` gives it, trace and all, so that a worker elsewhere needs no file. overrides: what
    is other than there, as the command line said. most_in_flight: of one worker; what is above it is dropped, unsent.
    """

    scenario: Mapping[str, Any]
    server: Server
    seed: str
    overrides: "Overrides"
    most_in_flight: int = 2000

    def resolved(self) -> Scenario:
        """The scenario as it is run here: with the overrides, and lengths that fit the model."""
        return fitted(self.overrides.of(scenario.parse(self.scenario)), self.server)

    def packed(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def unpacked(cls, data: Mapping[str, Any]) -> "Plan":
        own = {"server": Server(**data["server"]), "overrides": Overrides(**data["overrides"])}
        return cls(**{**data, **own})


@dataclass(frozen=True)
class Overrides:
    """rate: of the first flow, all others by the same factor. Times in seconds."""

    rate: float | None = None
    scale: float = 1.0
    measure: float | None = None
    warm_up: float | None = None
    drain: float | None = None
    ttft: float | None = None
    tpot: float | None = None
    attainment: float | None = None
    time_scale: float | None = None

    def of(self, whole: Scenario) -> Scenario:
        """Raises ScenarioError when a rate is asked of flows that have none."""
        factor = self.scale
        if self.rate is not None:
            first = getattr(whole.flows[0].arrivals, "rate", None)
            if first is None:
                raise scenario.ScenarioError(f"the first flow of {whole.name!r} has no one rate; use --scale")
            factor *= self.rate / first
        flows = [dataclasses.replace(flow, arrivals=self._paced(flow.arrivals, factor)) for flow in whole.flows]
        limits = {n: getattr(self, n) for n in ("ttft", "tpot", "attainment") if getattr(self, n) is not None}
        flows[0] = dataclasses.replace(flows[0], objective=dataclasses.replace(flows[0].objective, **limits))
        times = {n: getattr(self, n) for n in ("measure", "warm_up", "drain") if getattr(self, n) is not None}
        return dataclasses.replace(whole, flows=tuple(flows), **times)

    def _paced(self, pattern: Any, factor: float) -> Any:
        if isinstance(pattern, Replay) and self.time_scale is not None:
            pattern = dataclasses.replace(pattern, time_scale=self.time_scale)
        return pattern if factor == 1 else pattern.scaled(factor)


def fitted(whole: Scenario, server: Server) -> Scenario:
    """The scenario with all lengths scaled to what the model can take."""
    flows = []
    for flow in whole.flows:
        pattern = flow.arrivals
        if isinstance(pattern, Replay):
            pattern = dataclasses.replace(pattern, calls=traces.fitted(pattern.calls, server.context)[0])
        flows.append(dataclasses.replace(flow, arrivals=pattern, workload=flow.workload.scaled(server.context)))
    return dataclasses.replace(whole, flows=tuple(flows))


def keys_in(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The keys by name, from the environment."""
    return dict(json.loads(environment.get(KEYS) or "{}"))
