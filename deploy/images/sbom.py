"""What is in the image that this runs in, as CycloneDX 1.6 on standard output: Debian's packages and Python's.

Only the standard library, for it runs in the finished image. No times and no random ids: an image has one list.
"""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

OURS = "clinserve"
LONGEST_NAME = 80  # some distributions put the whole text of their licence where its name belongs

Component = dict[str, Any]


def main() -> None:
    os_release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    components = [*python_components(distributions()), *debian_components(dpkg(), os_release["ID"].strip('"'))]
    json.dump(document(components), sys.stdout, indent=1)


def document(components: Iterable[Component]) -> dict[str, Any]:
    """The list, with what it is a list of as its subject."""
    found = {component["bom-ref"]: component for component in components}
    subject = next((c for c in found.values() if c["name"] == OURS), {"name": OURS, "bom-ref": OURS})
    parts = [found[ref] for ref in sorted(found) if ref != subject["bom-ref"]]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, ' '.join(sorted(found)))}",
        "version": 1,
        "metadata": {"component": subject | {"type": "application"}},
        "components": parts,
    }


def python_components(installed: Iterable[Distribution]) -> Iterator[Component]:
    for one in installed:
        name = one.metadata["Name"]
        purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{quote(one.version)}"
        yield _component(name, one.version, purl) | licence(one.metadata)


def licence(metadata: Mapping[str, str] | Any) -> dict[str, Any]:
    """An SPDX expression where the distribution has one, else the name that it gives."""
    if expression := metadata.get("License-Expression"):
        return {"licenses": [{"expression": expression}]}
    classifiers = [c.split(" :: ")[-1] for c in metadata.get_all("Classifier") or () if c.startswith("License :: ")]
    name = (metadata.get("License") or "").strip()
    if 0 < len(name) <= LONGEST_NAME and "\n" not in name:
        return {"licenses": [{"license": {"name": name}}]}
    return {"licenses": [{"license": {"name": name}} for name in classifiers]} if classifiers else {}


def debian_components(listing: str, distribution: str) -> Iterator[Component]:
    """listing: lines of package, version and architecture, as dpkg-query prints them."""
    for line in listing.splitlines():
        package, version, architecture = line.split("\t")
        where = f"{quote(package)}@{quote(version)}?arch={architecture}"
        yield _component(package, version, f"pkg:deb/{distribution}/{where}")


def dpkg() -> str:
    return subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package}\t${Version}\t${Architecture}\n"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def _component(name: str, version: str, purl: str) -> Component:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    main()
