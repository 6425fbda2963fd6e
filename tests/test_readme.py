"""What README.md says about settings, errors, metrics, commands and files is true.

`make readme` (python -m tests.test_readme) writes the tables anew.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import yaml
from typer.testing import CliRunner

from serving import app as _app  # noqa: F401  # so that all error classes exist
from serving import errors
from serving.batches.batch import Status
from serving.cli import cli
from serving.scaling.decision import Reason
from serving.settings import parse, reference
from serving.sizing.catalog import Entry, catalog
from serving.sizing.errors import DoesNotFit
from serving.sizing.gpus import gpu_named
from serving.sizing.plan import Question, plan
from serving.telemetry.metrics import PrometheusMetrics
from serving.weights.files import CODE, PICKLES
from tests.test_limits import write as write_limits

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TENANCY = ROOT / "docs" / "tenancy.md"
RESPONSES = ROOT / "docs" / "responses.md"
BATCHES = ROOT / "docs" / "batches.md"
WEIGHTS = ROOT / "docs" / "weights.md"
CONSOLE = ROOT / "docs" / "console.md"
SIZING = ROOT / "docs" / "sizing.md"
SCALING = ROOT / "docs" / "scaling.md"


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


def catalog_table() -> str:
    gpus = ("L40S", "A100-80G", "H100", "H200")
    rows = []
    for entry in catalog().values():
        cells = [fitting(entry, gpu) for gpu in gpus]
        size = f"{entry.architecture.weights.total / 1e9:.1f}"
        rows.append(f"| `{entry.name}` | {size} | {entry.context:,} | {' | '.join(cells)} | {entry.licence.name} |")
    columns = ("model", "billions", "context", *gpus, "licence")
    return "\n".join([f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *rows])


def fitting(entry: Entry, gpu: str) -> str:
    """GPUs, and records at a time."""
    try:
        found = plan(entry.architecture, gpu_named(gpu), Question(at_least=8))
    except DoesNotFit:
        return "-"
    return f"{found.gpus}: {found.requests(found.question.record)}"


TABLES = {
    "settings": settings_table,
    "errors": errors_table,
    "metrics": metrics_table,
    "catalog": catalog_table,
}


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


def commands_in(text: str) -> list[list[str]]:
    """Every line of a code block that calls clinserve, in words, without its comment."""
    lines = re.findall(r"^clinserve .*$", text, re.MULTILINE)
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.mark.parametrize("page", [TENANCY, RESPONSES, BATCHES, WEIGHTS, CONSOLE, SIZING], ids=lambda page: page.stem)
def test_the_commands_in_a_page_exist_with_their_options(page: Path) -> None:
    commands = commands_in(page.read_text())
    assert len(commands) > 1
    for command in commands:
        verbs = list(itertools.takewhile(lambda word: re.fullmatch("[a-z-]+", word), command))[:2]
        asked = CliRunner().invoke(cli, [*verbs, "--help"], env={"COLUMNS": "200"})
        if asked.exit_code:  # the second word is an argument, not a verb
            asked = CliRunner().invoke(cli, [verbs[0], "--help"], env={"COLUMNS": "200"})
        assert asked.exit_code == 0, command
        assert all(word in asked.stdout for word in command if word.startswith("--")), command


def test_the_batches_page_names_settings_states_errors_and_files_that_exist() -> None:
    text = BATCHES.read_text()
    settings = {path.replace("[]", "") for path, _, _ in reference()}
    named = set(re.findall(r"`((?:batches|server)\.[a-z_]+)`", text))
    assert len(named) > 5 and named <= settings
    states = {
        state for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for state in re.findall("`([a-z_]+)`", row)
    }
    assert set(get_args(Status)) <= states
    codes = set(re.findall(r"400 `([a-zA-Z_]+)`", text))
    assert len(codes) > 1 and all(f"| `{code}` |" in README.read_text() for code in codes)
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links and [link for link in links if not (BATCHES.parent / link).exists()] == []


def test_the_tenancy_page_names_settings_metrics_errors_and_files_that_exist() -> None:
    text = TENANCY.read_text()
    settings = {path.replace("[]", "").split(".(")[0] for path, _, _ in reference()}
    named = set(re.findall(r"`((?:server|keys|quotas|usage|audit|secrets|identity|database|gateway)\.[a-z_]+)", text))
    assert {name for name in named if not any(known.startswith(name) for known in settings)} == set()
    metrics = set(re.findall(r"`(clinserve_[a-z_]+)`", text))
    assert metrics and {name for name in metrics if f"`{name}`" not in README.read_text()} == set()
    codes = set(re.findall(r"(?:503|429) `([a-z_]+)`", text))
    assert codes and all(f"| `{code}` |" in README.read_text() for code in codes)
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert [link for link in links if not (TENANCY.parent / link).exists()] == []


def test_the_weights_page_names_settings_kinds_and_files_that_exist_and_its_example_is_valid() -> None:
    text = WEIGHTS.read_text()
    settings = {path.replace("[]", "").removeprefix("deployments.") for path, _, _ in reference()}
    named = set(re.findall(r"`((?:server|weights|model)\.[a-z_]+)", text))
    assert named and named <= settings
    refused = text.partition("that holds\n")[2].partition(" is\nrefused")[0]
    assert set(re.findall(r"`\.([a-z0-9]+)`", refused)) <= {*PICKLES, *CODE}
    assert [link for link in re.findall(r"\]\(([^)#]+)", text) if not (WEIGHTS.parent / link).exists()] == []
    example = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert example and parse(yaml.safe_load(example[1])).deployments[0].model.digest


def test_the_clients_that_it_names_are_the_versions_that_are_tested() -> None:
    pinned = (ROOT / "requirements" / "dev.txt").read_text() + (ROOT / "requirements" / "serve.txt").read_text()
    pinned += "".join((ROOT / "requirements" / f"openai-{major}.txt").read_text() for major in (1, 2))
    javascript = json.loads((ROOT / "tests" / "node" / "package.json").read_text())["dependencies"]["openai"]
    text = " ".join(README.read_text().partition("The conformance tests")[2].partition("\n\n")[0].split())
    for package in ("openai", "azure-ai-inference", "langchain-openai"):
        for version in re.findall(rf"^{package}==([\w.]+)", pinned, re.MULTILINE):
            assert version.rpartition(".")[0] in text or version in text, (package, version)
    assert javascript.rpartition(".")[0] in text


def test_the_console_page_names_pages_settings_metrics_and_files_that_exist() -> None:
    text = CONSOLE.read_text()
    static = ROOT / "serving" / "gateway" / "console" / "static"
    scripts = "".join(file.read_text() for file in static.glob("*.js"))
    pages = re.findall(r'static title = "(\w+)"', scripts)
    assert {title for title in pages if f"\n| {title} |" not in text} == set() and len(pages) == 4
    assert f"{re.search('IDLE_MS = ([0-9]+)', scripts)[1]} minutes" in text  # type: ignore[index]
    assert set(re.findall(r"`(console\.[a-z_]+)", text)) <= {path for path, _, _ in reference()}
    metrics = set(re.findall(r"`((?:clinserve|gen_ai)_[a-z_]+)`", text))
    assert metrics and {name for name in metrics if f"`{name}`" not in README.read_text()} == set()
    links = re.findall(r"\]\(([^)#]+)", text)
    assert [link for link in links if not (CONSOLE.parent / link).exists()] == []


def test_the_sizing_page_names_models_figures_and_files_that_are_there() -> None:
    page = SIZING.read_text()
    text = " ".join(page.split())
    models = re.findall(r"^clinserve plan ([a-z][\w.-]+)", page, re.MULTILINE)
    assert len(models) > 2 and set(models) <= catalog().keys()
    gemma = catalog()["medgemma-27b-text"].architecture
    assert f"62 layers {gemma.layers - gemma.windows.count(None)} keep" in text and gemma.layers == 62
    full = replace(gemma, windows=(None,) * gemma.layers)
    small, large = (plan(one, gpu_named("H200"), Question()).kv for one in (gemma, full))
    share = small.blocks_of(8192) * small.block_bytes / (large.blocks_of(8192) * large.block_bytes)
    assert "an 8k record takes less than a third" in text and 0.25 < share < 1 / 3
    assert [link for link in re.findall(r"\]\(([^)#]+)", text) if not (SIZING.parent / link).exists()] == []


def test_the_scaling_page_names_settings_reasons_metrics_and_files_that_exist() -> None:
    text = SCALING.read_text()
    table = "".join(re.findall(r"^\| (`.+`) \| ", text, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", table)) == set(Reason)
    metrics = set(re.findall(r"`(clinserve_[a-z_]+)`", text))
    assert metrics and {name for name in metrics if f"| `{name}`" not in README.read_text()} == set()
    assert [link for link in re.findall(r"\]\(([^)#]+)", text) if not (SCALING.parent / link).exists()] == []
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        parse(yaml.safe_load(block), base=ROOT / "deploy" / "configs")


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
    write_limits()


if __name__ == "__main__":
    write()
