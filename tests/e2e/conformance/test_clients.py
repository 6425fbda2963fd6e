"""Real SDKs, unmodified, against real vLLM under real Ray Serve: every scenario with every client that has it.

The clients run as scripts, one process each, as their users would write them; each test here is one line of what such
a script reports. What vLLM does not do on demand (a refusal, a break in the middle of an answer, a filter) the echo
engine does, as one more deployment of the same product.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conformance.scenarios import Site
from tests.e2e.conformance.site import open_site
from tests.e2e.product import ROOT, Product
from tests.tenants.issuer import LocalIssuer

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

OLDER = Path(sys.prefix) / "clients"
"""Where `make setup-dev` puts other versions of a client, each in a folder of its own."""
PYTHON = [sys.executable, "-m"]
SCRIPTS = "tests.e2e.conformance"

ALL = (
    "chat", "stream", "stream_with_usage", "tools", "structured_output", "embeddings", "embeddings_of_tokens",
    "scoring", "files_and_batches", "responses", "repeats", "models", "errors", "beyond_the_model", "faults", "limits",
    "tokens",
)  # fmt: skip
ASYNC = ("chat", "stream", "embeddings", "errors", "limits")
INFERENCE = (
    "chat", "stream", "stream_with_usage", "tools", "structured_output", "embeddings", "models", "extra_parameters",
    "errors", "faults", "limits",
)  # fmt: skip
LANGCHAIN = ("chat", "stream", "tools", "structured_output", "embeddings", "errors", "limits", "content_filter")
JAVASCRIPT = (
    "chat", "stream", "stream_with_usage", "tools", "structured_output", "embeddings", "files_and_batches", "responses",
    "models", "errors", "limits",
)  # fmt: skip
FRAMEWORK = ("turns", "stream", "tools", "schema")
FRAMEWORKS = {
    name: FRAMEWORK
    for name in (
        "Agents on Chat Completions", "Agents on Responses", "Pydantic AI on Chat Completions",
        "Pydantic AI on Responses", "Pydantic AI at Azure", "LiteLLM openai", "LiteLLM azure", "LiteLLM azure_ai",
    )
} | {name: ("turns", "stream", "tools") for name in ("Haystack", "Haystack at Azure")}  # fmt: skip
JAVASCRIPT_FRAMEWORKS = (
    "AI SDK openai", "AI SDK openai.chat", "AI SDK azure", "AI SDK compatible", "Agents on Chat Completions",
    "Agents on Responses",
)  # fmt: skip


@dataclass(frozen=True)
class Client:
    """How its script is started, and what that performs: scenarios by the name of the class that users make."""

    command: Sequence[str]
    performs: dict[str, Sequence[str]]
    version: str = ""
    """The folder in OLDER; empty: the one that is installed."""


# The place for new scenarios: write one into a client's script, name it here.
CLIENTS = {
    "openai 3": Client(
        [*PYTHON, f"{SCRIPTS}.openai_client"],
        {name: ALL for name in ("OpenAI", "OpenAI at /openai/v1", "AzureOpenAI", "AzureOpenAI at /openai/v1")},
    ),
    "openai 2": Client(
        [*PYTHON, f"{SCRIPTS}.openai_client"], {name: ALL for name in ("OpenAI", "AzureOpenAI")}, version="openai-2"
    ),
    "openai 1": Client(
        [*PYTHON, f"{SCRIPTS}.openai_client"], {name: ALL for name in ("OpenAI", "AzureOpenAI")}, version="openai-1"
    ),
    "openai 3 async": Client(
        [*PYTHON, f"{SCRIPTS}.openai_async"], {name: ASYNC for name in ("AsyncOpenAI", "AsyncAzureOpenAI")}
    ),
    "azure-ai-inference": Client(
        [*PYTHON, f"{SCRIPTS}.inference_client"], {name: INFERENCE for name in ("key", "token over TLS")}
    ),
    "langchain-openai": Client(
        [*PYTHON, f"{SCRIPTS}.langchain_client"], {name: LANGCHAIN for name in ("AzureChatOpenAI", "ChatOpenAI")}
    ),
    "openai.js": Client(
        [sys.executable, "tests/node/node.py", "tests/node/openai.mjs"],
        {name: JAVASCRIPT for name in ("OpenAI", "AzureOpenAI")},
    ),
    "frameworks": Client([*PYTHON, f"{SCRIPTS}.frameworks_client"], FRAMEWORKS, version="frameworks"),
    "llama-index": Client(
        [*PYTHON, f"{SCRIPTS}.llama_index_client"],
        {"OpenAILike": ("turns", "stream", "tools")},
        version="llama-index",
    ),
    "frameworks.js": Client(
        [sys.executable, "tests/node/node.py", "tests/node/frameworks.mjs"],
        {name: FRAMEWORK for name in JAVASCRIPT_FRAMEWORKS},
    ),
}


def run(name: str, site: Site) -> dict[str, str | None]:
    """What became of each scenario of a client: None, or how it failed."""
    client = CLIENTS[name]
    path = [str(OLDER / client.version)] if client.version else []
    assert all(Path(folder).exists() for folder in path), f"{path} is missing: make setup-dev"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([*path, str(ROOT)]),
        "CLINSERVE_SITE": json.dumps(dataclasses.asdict(site)),
    }
    done = subprocess.run(
        [*client.command, *client.performs], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    reports = [json.loads(line) for line in done.stdout.splitlines()]
    silent = dict.fromkeys(told_of(name), f"its script has not reported this:\n{done.stderr}")
    return silent | {report["name"]: report["failure"] for report in reports}


def told_of(name: str) -> list[str]:
    """The names under which the table says that a client reports."""
    return [f"{name} {kind} {scenario}" for kind, scenarios in CLIENTS[name].performs.items() for scenario in scenarios]


@pytest.fixture(scope="module")
def site(product: Product, issuer: LocalIssuer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(product, issuer, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def reports(site: Site) -> Any:
    """The reports of a client by name; its script runs when they are first asked for."""
    return functools.cache(lambda name: run(name, site))


@pytest.mark.parametrize(
    ("name", "scenario"),
    [pytest.param(name, scenario, id=scenario) for name in CLIENTS for scenario in told_of(name)],
)
def test_a_real_client_just_works(name: str, scenario: str, reports: Any) -> None:
    failure = reports(name)[scenario]
    assert failure is None, failure


@pytest.mark.parametrize("name", CLIENTS)
def test_every_scenario_of_a_script_is_in_the_table(name: str, reports: Any) -> None:
    assert reports(name).keys() == set(told_of(name))
