"""Batches on real vLLM under Ray Serve: the gateway that runs one dies in the middle, and every line is there once."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import openai
import psutil
import pytest

from tests.batches.conftest import jsonl, rows
from tests.e2e.conftest import MODEL
from tests.e2e.product import Product

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
LINES = 60


def line(number: int) -> dict[str, Any]:
    said = f"{number}-year-old man. Medications: metformin {number} mg daily. Which medications does the patient take?"
    body = {"model": MODEL, "messages": [{"role": "user", "content": said}], "temperature": 0, "max_tokens": 100}
    body |= {"min_tokens": 100, "ignore_eos": True}
    return {"custom_id": f"t-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def watched(client: openai.OpenAI, id: str, least: int) -> Any:
    """The batch, once so many lines have completed or it has ended. A server that is away is asked again."""
    end = time.monotonic() + 150
    while time.monotonic() < end:
        with contextlib.suppress(openai.APIConnectionError, openai.InternalServerError):
            batch = client.batches.retrieve(id)
            if batch.request_counts.completed >= least or batch.status in ("completed", "failed", "expired"):  # type: ignore[union-attr]
                return batch
        time.sleep(0.05)
    raise AssertionError("not in time")


def gateway(product: Product) -> psutil.Process:
    return next(p for p in product.processes() if "ServeReplica:gateway" in " ".join(p.cmdline()))


def test_a_batch_whose_gateway_is_killed_goes_on_in_the_next(product: Product, client: openai.OpenAI) -> None:
    file = client.files.create(file=("notes.jsonl", jsonl([line(n) for n in range(LINES)])), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert watched(client, batch.id, 5).status == "in_progress"
    gateway(product).kill()
    product.killed_gateways += 1
    batch = watched(client, batch.id, LINES + 1)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", LINES, 0)  # type: ignore[union-attr]
    answers = rows(client.files.content(str(batch.output_file_id)).text)
    assert sorted(one["custom_id"] for one in answers) == sorted(f"t-{n}" for n in range(LINES))
    assert batch.error_file_id is None
    tokens = sum(one["response"]["body"]["usage"]["completion_tokens"] for one in answers)
    assert batch.usage and batch.usage.output_tokens == tokens == LINES * 100
