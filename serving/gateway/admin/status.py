"""/admin/v1/status: what runs, and whether it would answer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from serving import __version__
from serving.engines.engine import Operation
from serving.gateway.caller import SignedIn
from serving.gateway.catalog import Deployment
from serving.gateway.fleet import Phase, Replicas, Start
from serving.gateway.parts import Gateway
from serving.scaling.told import Told

router = APIRouter(prefix="/status", tags=["status"])


class ReplicaCounts(BaseModel):
    running: int
    starting: int
    stopping: int


class Change(BaseModel):
    at: datetime
    before: int
    after: int
    reason: str
    detail: str


class Scaling(BaseModel):
    """The last decision, and the last changes, the latest first. Reasons: docs/scaling.md."""

    at: datetime
    target: int = Field(description="Replicas that there are to be.")
    wanted: int = Field(description="What the load asks for, bounds and budget aside.")
    min: int
    max: int
    reason: str
    detail: str
    goal_missed: bool
    changes: list[Change]


class StartPhases(BaseModel):
    at: datetime = Field(description="When it had ended.")
    seconds: float
    phases: dict[Phase, float] = Field(
        description="Seconds until there was a process (node), verified weights, a loaded engine, a first answer."
    )


class DeploymentStatus(BaseModel):
    name: str
    notice: str | None = Field(description="What its users must know, such as 'not for clinical use'.")
    revision: str = Field(description="Of its weights: a commit or a digest; empty if there are none of ours.")
    operations: list[Operation] = Field(description="What its model can do.")
    ready: bool = Field(description="A request would be answered now.")
    replicas: ReplicaCounts | None = Field(description="null: its engine runs elsewhere.")
    scaling: Scaling | None = Field(description="null: the number of replicas is fixed, or not ours.")
    last_start: StartPhases | None = Field(description="What the last start of a replica took; null: none is known.")


class Status(BaseModel):
    object: Literal["status"] = "status"
    version: str
    started_at: datetime = Field(description="When the gateway replica that answers was started.")
    deployments: list[DeploymentStatus]


@router.get("", summary="What runs")
async def status(caller: SignedIn, gateway: Gateway) -> Status:
    """For everybody with a key or a token: the deployments that it may call."""
    deployments = gateway.catalog.open_to(caller)
    replicas, scaling, ready = await asyncio.gather(
        gateway.fleet.replicas(),
        gateway.fleet.scaling(),
        asyncio.gather(*(deployment.engine.ready() for deployment in deployments)),
    )
    return Status(
        version=__version__,
        started_at=datetime.fromtimestamp(gateway.catalog.created, UTC),
        deployments=[
            _card(deployment, is_ready, replicas.get(deployment.name), scaling.get(deployment.name))
            for deployment, is_ready in zip(deployments, ready, strict=True)
        ],
    )


def _card(deployment: Deployment, ready: bool, replicas: Replicas | None, scaling: Told | None) -> DeploymentStatus:
    return DeploymentStatus(
        name=deployment.name,
        notice=deployment.notice,
        revision=deployment.revision,
        operations=sorted(deployment.operations),
        ready=ready,
        replicas=replicas
        and ReplicaCounts(running=replicas.running, starting=replicas.starting, stopping=replicas.stopping),
        scaling=scaling and _scaling(scaling),
        last_start=_shown(replicas.last_start) if replicas and replicas.last_start else None,
    )


def _scaling(told: Told) -> Scaling:
    return Scaling(
        at=datetime.fromtimestamp(told.at, UTC),
        target=told.target,
        wanted=told.wanted,
        min=told.minimum,
        max=told.maximum,
        reason=told.reason,
        detail=told.detail,
        goal_missed=told.missed,
        changes=[
            Change(
                at=datetime.fromtimestamp(change.at, UTC),
                before=change.before,
                after=change.after,
                reason=change.reason,
                detail=change.detail,
            )
            for change in reversed(told.latest)
        ],
    )


def _shown(start: Start) -> StartPhases:
    return StartPhases(
        at=datetime.fromtimestamp(start.at, UTC),
        seconds=round(start.seconds, 1),
        phases={phase: round(seconds, 1) for phase, seconds in start.phases.items()},
    )
