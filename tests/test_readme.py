"""What README.md says about settings, errors, metrics, commands and files is true.

`make readme` (python -m tests.test_readme) writes the tables anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from serving import app as _app  # noqa: F401  # so that all error classes exist
from serving import errors
from serving.cli import cli
from serving.telemetry.metrics import PrometheusMetrics

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def settings_table() -> str:
    return CliRunner().invoke(cli, ["config", "reference"]).stdout.strip()


def errors_table() -> str:
    def tree(kind: type[errors.ServingError]) -> Iterator[type[errors.ServingError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from tree(child)

    kinds = [kind for kind in tree(errors.ServingError) if kind.__module__.startswith("serving.")]
    rows = sorted({f"| {k.status} | `{k.code}` | `{k.kind}` |" for k in kinds if k is not errors.EngineError})
    return "\n".join(["| status | code | type |", "|---|---|---|", *rows])


def metrics_table() -> str:
    rows = []
    for family in PrometheusMetrics().families():
        name = family.name + ("_total" if family.type == "counter" else "")
        rows.append(f"| `{name}` | {family.type} | {family.documentation} |")
    return "\n".join(["| metric | type | meaning |", "|---|---|---|", *rows])


TABLES = {"settings": settings_table, "errors": errors_table, "metrics": metrics_table}


def block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_what_the_code_says(name: str) -> None:
    found = block(name).search(README.read_text())
    assert found is not None
    assert found[0].strip() == TABLES[name](), "run: make readme"


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text())
    assert [link for link in links if not link.startswith("http") and not (ROOT / link).exists()] == []


def test_every_command_and_target_exists() -> None:
    text = README.read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE)) <= targets
    for verb in set(re.findall(r"`clinserve ([a-z]+)", text)):
        assert CliRunner().invoke(cli, [verb, "--help"]).exit_code == 0, verb


def test_the_numbered_path_names_things_that_exist() -> None:
    path = README.read_text().partition("## The life of a request")[2].partition("## The map")[0]
    code = "\n".join(file.read_text() for file in (ROOT / "serving").rglob("*.py"))
    for name in re.findall(r"`([A-Za-z_]+)`", path):
        assert re.search(rf"\b{name}\b", code), name


def write() -> None:
    text = README.read_text()
    for name, table in TABLES.items():
        text = block(name).sub(lambda _, table=table: table() + "\n", text)  # type: ignore[misc]
    README.write_text(text)


if __name__ == "__main__":
    write()
