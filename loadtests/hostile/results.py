"""The file of results: one run, or several where one went on with what another had left out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loadtests.hostile.judged import Found, Quiet
from loadtests.hostile.table import quiet_row, row


class Results:
    """earlier: whether the runs that the file has are kept."""

    def __init__(self, file: Path, about: Mapping[str, str], *, earlier: bool) -> None:
        self._file = file
        self._about = dict(about)
        self._earlier: list[dict[str, Any]] = json.loads(file.read_text())["runs"] if earlier and file.exists() else []
        self._runs = self._earlier

    @property
    def runs(self) -> Sequence[Mapping[str, Any]]:
        return self._runs

    @property
    def done(self) -> set[str]:
        """Names of the attacks that the file has."""
        return {attack["attack"] for run in self._runs for attack in run["attacks"]}

    @property
    def broken(self) -> list[str]:
        """Names of the attacks that did not hold."""
        return [attack["attack"] for run in self._runs for attack in run["attacks"] if attack["faults"]]

    def keep(self, found: Sequence[Found], quiet: Quiet) -> None:
        """So far: a run that is ended loses none of them."""
        attacks = [_shown(one, quiet) for one in found]
        run = {"about": self._about, "quiet": asdict(quiet), "quiet_row": quiet_row(quiet), "attacks": attacks}
        self._runs = [*self._earlier, run]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps({"runs": self._runs}, indent=1))


def _shown(found: Found, quiet: Quiet) -> dict[str, Any]:
    fields = {name: getattr(found, name) for name in found.__dataclass_fields__ if name != "attack"}
    attack = {"attack": found.attack.name, "section": found.attack.section, "what": found.attack.what}
    return attack | fields | {"faults": found.faults(quiet), "row": row(found, quiet)}
