"""Replicas of each deployment in what Ray Serve says; that it says so is for tests/e2e."""

from __future__ import annotations

from typing import Any

import pytest

serve_schema: Any = pytest.importorskip("ray.serve.schema")

from serving.deployments.ray_fleet import counted  # noqa: E402
from serving.gateway.fleet import Replicas  # noqa: E402


def test_replicas_are_counted_by_what_they_do() -> None:
    states = {"RUNNING": 2, "STARTING": 1, "RECOVERING": 1, "STOPPING": 3}
    deployment = serve_schema.DeploymentStatusOverview(
        status="HEALTHY", status_trigger="UNSPECIFIED", replica_states=states, message=""
    )
    application = serve_schema.ApplicationStatusOverview(
        status="RUNNING", message="", last_deployed_time_s=0.0, deployments={"model": deployment}
    )
    status = serve_schema.ServeStatus(applications={"engine-notes": application})
    assert counted(status, "notes") == Replicas(running=2, starting=2, stopping=3)
