"""The assembly's part for how many replicas a deployment has: Ray Serve's autoscaling from settings, and profiles."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from serving.scaling.decision import Goals
from serving.scaling.profile import CapacityProfile
from serving.settings import Deployment, EchoEngine, Settings, SettingsError

_REPORT_SECONDS = 1.0
_HELD_SECONDS = 3.0
"""Over which Serve averages what waits at handles."""
_ECHO_SECONDS = 3.0
"""What an echo replica takes to start beside its start_time."""


def number_of(settings: Settings, deployment: Deployment) -> dict[str, Any]:
    """Serve's options for the number of replicas: fixed, or as our policy says.

    Serve's own delays and factors are set to nothing: the policy has windows of its own.
    """
    scaling = deployment.scaling
    if scaling is None:
        return {"num_replicas": deployment.replicas}
    return {
        "autoscaling_config": {
            "min_replicas": scaling.min,
            "max_replicas": scaling.max,
            "metrics_interval_s": _REPORT_SECONDS,
            "look_back_period_s": _HELD_SECONDS,
            "upscale_delay_s": 0.0,
            "downscale_delay_s": 0.0,
            "downscale_to_zero_delay_s": 0.0,
            "policy": {
                "policy_function": "serving.deployments.scaling_policy:SloPolicy",
                "policy_kwargs": {
                    "deployment": deployment.name,
                    "goals": asdict(goals_of(deployment)),
                    "profile": profile_of(settings, deployment).to_numbers(),
                },
            },
        }
    }


def goals_of(deployment: Deployment) -> Goals:
    scaling = deployment.scaling
    assert scaling is not None
    return Goals(
        ttft_p95=deployment.slo.ttft_p95,
        tpot_p95=deployment.slo.tpot_p95,
        scale_to_zero_after=scaling.scale_to_zero_after if scaling.min == 0 else None,
        scale_down_after=scaling.scale_down_after,
        replica_hours_a_day=scaling.replica_hours_a_day,
    )


def profile_file(settings: Settings, deployment: Deployment) -> Path:
    """Where `clinserve profile` writes, and where it is read from."""
    named = deployment.scaling.profile if deployment.scaling else None
    return named or settings.server.state_dir / "profiles" / f"{deployment.name}.json"


def profile_of(settings: Settings, deployment: Deployment) -> CapacityProfile:
    """Measured; else what an echo engine is set to; else only a concurrency and a start time that are often right.

    Raises SettingsError for a file that is named and not there, or that is no profile.
    """
    file = profile_file(settings, deployment)
    named = deployment.scaling is not None and deployment.scaling.profile is not None
    if not file.exists() and not named:
        return _of_echo(deployment.engine) if isinstance(deployment.engine, EchoEngine) else CapacityProfile()
    try:
        return CapacityProfile.from_numbers(json.loads(file.read_text()))
    except OSError as error:
        raise SettingsError(f"{file}: {error.strerror}; `clinserve profile {deployment.name}` writes it") from None
    except (ValueError, AttributeError, TypeError, LookupError, RecursionError) as error:
        raise SettingsError(f"{file}: {error}") from None


def _of_echo(engine: EchoEngine) -> CapacityProfile:
    profile = CapacityProfile(start_seconds=engine.start_time + _ECHO_SECONDS)
    if engine.prefill_rate:
        profile = replace(profile, prefill_rate=engine.prefill_rate)
    if engine.slots:
        profile = replace(profile, concurrency=engine.slots)
    if engine.slots and engine.inter_token:
        profile = replace(profile, decode_rate=engine.slots / engine.inter_token)
    return profile
