"""What the clients' scripts share: the site that they call, what they say there, and how they report each scenario.

A script is run in a process of its own, with the client as its users install it (clients.py says which).
"""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

NOTE = "67-year-old woman with hypertension. Medications: lisinopril 10 mg daily. Allergies: penicillin (rash)."
ASK: Any = [{"role": "user", "content": f"{NOTE} Any allergies?"}]
LONG: Any = [{"role": "user", "content": "tell all of it again " * 60}]
"""For an answer that lasts some seconds, with `ignore_eos` and LASTING tokens."""
LASTING = 1500
TOO_LONG: Any = [{"role": "user", "content": "pain " * 5000}]
TOO_LARGE: Any = [{"role": "user", "content": "x" * 5_000_000}]
REFUSE: Any = [{"role": "user", "content": "PLEASE_REFUSE"}]
DIE: Any = [{"role": "user", "content": "one two three four PLEASE_DIE"}]
STALL: Any = [{"role": "user", "content": "one two three four PLEASE_STALL"}]
SCHEMA: Any = {
    "type": "object",
    "properties": {"allergic": {"type": "boolean"}, "severity": {"enum": ["mild", "severe"]}},
    "required": ["allergic", "severity"],
    "additionalProperties": False,
}
TOOL = "refer_to_allergist"
PARAMETERS: Any = {
    "type": "object",
    "properties": {"urgent": {"type": "boolean"}},
    "required": ["urgent"],
    "additionalProperties": False,
}
CALL: Any = {
    "tools": [{"type": "function", "function": {"name": TOOL, "description": "Refer.", "parameters": PARAMETERS}}],
    "tool_choice": {"type": "function", "function": {"name": TOOL}},
    "temperature": 0,
    "max_tokens": 200,
    "frequency_penalty": 1.5,  # a small model would fill the call with spaces, which its grammar allows
}
WORDS = ["allergic to penicillin", "takes lisinopril", "a broken wrist"]


@dataclass(frozen=True)
class Site:
    """The product as a client is told about it.

    chat, embed: deployments on vLLM. faulty: on the echo engine, it fails on demand. guarded: likewise, with a filter.
    keys by what they may do: `any`; `elsewhere`, faulty only; `single`, one request at a time; `small`, few tokens a
    minute; `keeping`, of a tenant whose responses are kept. tokens of an identity provider: `good`, `expired`.
    tls: the same product behind TLS; certificate: its authority's. dimensions: of a vector.
    """

    url: str
    tls: str
    certificate: str
    chat: str
    embed: str
    faulty: str
    guarded: str
    dimensions: int
    keys: dict[str, str]
    tokens: dict[str, str]


if given := os.environ.get("CLINSERVE_SITE"):
    SITE = Site(**json.loads(given))
    """The one that this process was started for; only clients' scripts have it."""


def perform(scenarios: Iterable[tuple[str, Callable[[], object]]]) -> None:
    """Run each and print one JSON line: its name, how long it took, and how it failed, if it did."""
    for name, scenario in scenarios:
        began, failure = time.perf_counter(), None
        try:
            scenario()
        except (Exception, pytest.fail.Exception):
            failure = traceback.format_exc()
        print(
            json.dumps({"name": name, "seconds": round(time.perf_counter() - began, 2), "failure": failure}), flush=True
        )


def raised(kind: type[Exception], act: Callable[[], object]) -> Any:
    """The error of exactly this class that `act` raises."""
    with pytest.raises(kind) as caught:
        act()
    assert type(caught.value) is kind, type(caught.value)
    return caught.value


def eventually(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.1)


def closest(wanted: list[float], others: list[list[float]]) -> int:
    """Which of the others points most in the same direction; all have length 1."""
    return max(range(len(others)), key=lambda i: sum(a * b for a, b in zip(wanted, others[i], strict=True)))
