"""The console and `clinserve top` on real vLLM: a streamed answer, replicas, the engine's figures."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from serving.commands.figures import rows
from serving.commands.running import Remote
from tests.console.conftest import FLAGS, chromium
from tests.e2e.conftest import MODEL
from tests.e2e.product import Product
from tests.e2e.test_openai_client import NOTE

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture
def page(product: Product) -> Iterator[Page]:
    executable = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
        page = browser.new_page()
        page.goto(f"{product.url}/console")
        yield page
        browser.close()


def test_an_answer_of_the_demo_model_streams_in_and_its_replica_is_shown(product: Product, page: Page) -> None:
    page.get_by_label("API key").fill(product.key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("note")).to_contain_text("not for clinical use")
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Message").fill(f"{NOTE} Any allergies?")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("status")).to_have_text("Answered.", timeout=60_000)
    answer = page.get_by_role("article").last
    expect(answer).to_contain_text(re.compile("penicillin", re.IGNORECASE))
    expect(answer).to_contain_text(re.compile(r"\d+ in.*\d+ out.*first token \d+ ms.*tokens/s"))
    page.get_by_role("link", name="Deployments").click()
    row = page.get_by_role("row", name=re.compile(f"^Ready {MODEL}"))
    expect(row).to_contain_text("1 running")


def test_what_top_shows_of_the_engine_is_vllms_own(product: Product) -> None:
    with Remote(product.url, product.key) as remote:
        reading = remote.read()
    (row,) = (one for one in rows(reading, reading) if one.name == MODEL)
    assert (row.name, row.state, row.replicas) == (MODEL, "ready", "1")
    assert row.queue == 0 and row.kv is not None and 0 <= row.kv <= 1
    assert reading.metrics.by("model_name", "vllm:generation_tokens_total")[MODEL] > 0
