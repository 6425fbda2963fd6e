"""checkov and hadolint have nothing against the images and the Bicep files but what is argued beside each exception."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CHECKOV = ROOT / ".venv/checkov/bin/checkov"
HADOLINT = ROOT / ".venv/bin/hadolint"
DOCKERFILES = sorted((ROOT / "deploy/images").glob("*.Dockerfile"))


@pytest.fixture(scope="module")
def reports() -> dict[str, Any]:
    """What checkov found, by its frameworks."""
    if not CHECKOV.exists():
        (pytest.fail if os.environ.get("CI") else pytest.skip)("checkov is not installed: make setup-dev does it")
    # One folder, since checkov writes a document for each; without --skip-download it looks for its maker's service.
    command = [
        CHECKOV,
        "--directory",
        "deploy",
        "--framework",
        "bicep",
        "dockerfile",
        "--skip-download",
        "--output",
        "json",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110)
    return {report["check_type"]: report for report in json.loads(done.stdout)}


@pytest.mark.parametrize("framework", ["bicep", "dockerfile"])
def test_checkov_has_nothing_against_them(reports: dict[str, Any], framework: str) -> None:
    results, summary = reports[framework]["results"], reports[framework]["summary"]
    assert summary["parsing_errors"] == 0 and summary["passed"] > 15
    failed = [f"{check['check_id']} {check['check_name']}: {check['resource']}" for check in results["failed_checks"]]
    assert failed == []


def test_checkov_saw_every_file(reports: dict[str, Any]) -> None:
    seen = {
        Path(check["file_path"]).name
        for report in reports.values()
        for kind in ("passed_checks", "skipped_checks")
        for check in report["results"][kind]
    }
    assert {"aks.bicep", "keyVault.bicep", "storage.bicep", "acr.bicep", "postgres.bicep"} <= seen
    assert {path.name for path in DOCKERFILES} <= seen


def test_each_exception_has_a_reason() -> None:
    for path in [*(ROOT / "deploy").rglob("*.bicep"), *(ROOT / "deploy").rglob("*.Dockerfile")]:
        for line in re.findall(r"checkov:skip=.*", path.read_text()):
            assert re.fullmatch(r"checkov:skip=CKV2?_[A-Z]+_\d+: .{20,}", line), f"{path.name}: {line}"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_hadolint_has_nothing_against_them(dockerfile: Path) -> None:
    done = subprocess.run([HADOLINT, dockerfile], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "", done.stdout
