"""`clinserve status`: what runs on a server, once."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import typer

from serving.commands.printing import print_json, print_table
from serving.commands.running import Reading, Remote
from serving.commands.times import shown

NOT_READY = 2
_CHANGES = 5


def status(url: str, key: str | None, *, as_json: bool) -> int:
    """Print it; the exit status: 0 when a completion would succeed, 2 when not. Raises CannotReach."""
    with Remote(url, key) as remote:
        reading = remote.read()
    if as_json:
        print_json(_public(remote.url, reading))
    else:
        _print(remote.url, reading)
    return 0 if reading.problem is None else NOT_READY


def replicas_of(deployment: dict[str, Any]) -> str:
    """2, or 1+1 while one starts or stops; - for an engine that runs elsewhere."""
    counts = deployment.get("replicas")
    if counts is None:
        return "-"
    changing = counts["starting"] + counts["stopping"]
    return f"{counts['running']}+{changing}" if changing else str(counts["running"])


def state_of(deployment: dict[str, Any]) -> str:
    """asleep: no replica, and a request would wake one."""
    counts = deployment.get("replicas")
    if counts is not None and not counts["running"]:
        return "starting" if counts["starting"] else "asleep" if deployment.get("ready") else "away"
    return {True: "ready", False: "away", None: "?"}[deployment.get("ready")]


def start_of(deployment: dict[str, Any]) -> str:
    """What its last start took, and on what: 68.1 s: node 3.2, weights 12.0, engine 45.4, warm-up 7.5."""
    start = deployment.get("last_start")
    if start is None:
        return ""
    phases = ", ".join(f"{name.replace('_', '-')} {seconds:.1f}" for name, seconds in start["phases"].items())
    return f"{start['seconds']:.1f} s: {phases}"


def _print(url: str, reading: Reading) -> None:
    known = reading.status
    version = f"clinserve {known['version']}" if known else "clinserve"
    since = f", up since {shown(datetime.fromisoformat(known['started_at']))}" if known else ""
    typer.echo(f"{version} at {url}: {'ready' if reading.problem is None else 'not ready'}{since}")
    if reading.problem:
        typer.echo(reading.problem)
    rows = [
        (d["name"], state_of(d), replicas_of(d), str(reading.in_flight.get(d["name"], 0)), d.get("revision", "")[:19])
        for d in reading.deployments
    ]
    if rows:
        columns = ("deployment", "state", "replicas", "in flight", "weights")
        print_table(columns, rows, whole=columns, right=("replicas", "in flight"))
    for deployment in reading.deployments:
        if scaling := deployment.get("scaling"):
            typer.echo("\n" + "\n".join(_scaling_lines(deployment["name"], scaling)))
        if took := start_of(deployment):
            typer.echo(f"Last start of {deployment['name']}, {shown(_ended(deployment))}: {took}")
    if known is None:
        typer.echo("With a key (--key, CLINSERVE_API_KEY) there is more: states, replicas, versions.")


def _scaling_lines(name: str, scaling: dict[str, Any]) -> list[str]:
    """What is, and the last changes with their reasons."""
    goal = ", misses its goal" if scaling["goal_missed"] else ""
    what = f"{name} scales: {scaling['target']} of {scaling['min']} to {scaling['max']}{goal}"
    changes = [
        f"  {shown(datetime.fromisoformat(c['at']))}  {c['before']} to {c['after']}  {c['reason']}: {c['detail']}"
        for c in scaling["changes"][:_CHANGES]
    ]
    return [f"{what}; {scaling['reason']}: {scaling['detail']}", *changes]


def _ended(deployment: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(deployment["last_start"]["at"])


def _public(url: str, reading: Reading) -> dict[str, Any]:
    known = reading.status or {}
    return {
        "url": url,
        "ready": reading.problem is None,
        "problem": reading.problem,
        "version": known.get("version"),
        "started_at": known.get("started_at"),
        "deployments": [d | {"in_flight": reading.in_flight.get(d["name"], 0)} for d in reading.deployments],
    }
