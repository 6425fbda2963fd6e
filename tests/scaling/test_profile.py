"""What one replica can do: as a file, as an echo engine is set, and when nobody has measured."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from serving.fleets import goals_of, number_of, profile_file, profile_of
from serving.scaling.profile import CapacityProfile
from serving.settings import Settings, SettingsError, parse

MEASURED = CapacityProfile(prefill_rate=9000.0, decode_rate=1200.0, concurrency=24.0, start_seconds=40.0)


def settings(tmp_path: Path, engine: dict[str, Any] | None = None, **scaling: Any) -> Settings:
    deployment = {
        "name": "notes",
        "engine": engine or {"kind": "echo"},
        "slo": {"ttft_p95": "2s", "tpot_p95": "100ms"},
        "scaling": {"max": 4} | scaling,
    }
    return parse({"server": {"state_dir": str(tmp_path)}, "deployments": [deployment]}, base=tmp_path)


def test_a_profile_that_was_measured_is_found_in_the_state_directory(tmp_path: Path) -> None:
    known = settings(tmp_path)
    file = profile_file(known, known.deployments[0])
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"deployment": "notes", **MEASURED.to_numbers()}))
    assert profile_of(known, known.deployments[0]) == MEASURED


def test_a_named_profile_lies_beside_the_configuration_and_must_be_there(tmp_path: Path) -> None:
    known = settings(tmp_path, profile="h200.json")
    with pytest.raises(SettingsError, match=r"h200\.json: No such file.*clinserve profile notes"):
        profile_of(known, known.deployments[0])
    (tmp_path / "h200.json").write_text(json.dumps(MEASURED.to_numbers()))
    assert profile_of(known, known.deployments[0]) == MEASURED


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"concurrency": "many"}', '{"concurrency": 0}'])
def test_what_is_no_profile_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    known = settings(tmp_path, profile="bad.json")
    with pytest.raises(SettingsError, match=r"bad\.json: "):
        profile_of(known, known.deployments[0])


def test_an_echo_engine_can_do_what_it_is_set_to(tmp_path: Path) -> None:
    engine = {"kind": "echo", "slots": 4, "inter_token": "20ms", "prefill_rate": 5000, "start_time": "7s"}
    known = settings(tmp_path, engine)
    profile = profile_of(known, known.deployments[0])
    assert (profile.concurrency, profile.decode_rate, profile.prefill_rate) == (4, 200.0, 5000)
    assert profile.start_seconds == 10.0


def test_without_a_measurement_rates_decide_nothing(tmp_path: Path) -> None:
    known = settings(tmp_path, {"kind": "echo", "place": "replicas"})
    assert profile_of(known, known.deployments[0]).decode_rate == math.inf
    assert json.loads(json.dumps(CapacityProfile().to_numbers())) == {"concurrency": 64.0, "start_seconds": 60.0}


def test_serves_own_delays_are_off_and_ours_are_in_the_goals(tmp_path: Path) -> None:
    known = settings(tmp_path, min=0, scale_to_zero_after="10m", scale_down_after="2m", replica_hours_a_day=30)
    asked = number_of(known, known.deployments[0])["autoscaling_config"]
    assert {asked[name] for name in asked if "delay" in name} == {0.0}
    assert asked["policy"]["policy_kwargs"]["goals"] == {
        "ttft_p95": 2.0,
        "tpot_p95": 0.1,
        "scale_to_zero_after": 600.0,
        "scale_down_after": 120.0,
        "replica_hours_a_day": 30.0,
    }
    json.dumps(asked)  # Serve wants JSON
    kept = settings(tmp_path, min=1)
    assert goals_of(kept.deployments[0]).scale_to_zero_after is None
