"""The `openai` package for Python as its users write it; any major version. The arguments: which of CLIENTS."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

import openai

from tests.e2e.conformance import openai_answers as answers
from tests.e2e.conformance import openai_failures as failures
from tests.e2e.conformance.openai_clients import CLIENTS, Make
from tests.e2e.conformance.scenarios import perform

SCENARIOS: list[Callable[[Make], None]] = [
    answers.chat,
    answers.stream,
    answers.stream_with_usage,
    answers.tools,
    answers.structured_output,
    answers.embeddings,
    answers.embeddings_of_tokens,
    answers.scoring,
    answers.files_and_batches,
    answers.responses,
    answers.repeats,
    answers.models,
    answers.tokens,
    failures.errors,
    failures.beyond_the_model,
    failures.faults,
    failures.limits,
]

if __name__ == "__main__":
    perform(
        (f"openai {openai.__version__[0]} {name} {scenario.__name__}", functools.partial(scenario, CLIENTS[name]))
        for name in sys.argv[1:]
        for scenario in SCENARIOS
    )
