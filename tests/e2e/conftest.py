"""One product on real Ray Serve and real vLLM for all tests here; the drill that ends it runs last."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest

from serving.tenants.key_text import new_key_text
from tests.e2e.conformance.site import ELSEWHERE_KEY, configuration
from tests.e2e.product import Product
from tests.telemetry.otlp_receiver import Receiver, receiving
from tests.tenants.issuer import LocalIssuer

MODEL = "clinical-demo"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One product at a time: tests with one of their own come before the shared one starts."""
    items.sort(key=lambda item: "product" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def issuer() -> Iterator[LocalIssuer]:
    with LocalIssuer() as issuer:
        yield issuer


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """Where the product sends the spans of those requests that ask for it."""
    with receiving() as running:
        yield running


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory, issuer: LocalIssuer, receiver: Receiver) -> Iterator[Product]:
    config = tmp_path_factory.mktemp("config") / "product.yaml"
    running = Product(tmp_path_factory.mktemp("state"), str(config))
    configuration(config, issuer, running.url, receiver.url)
    running.bring(new_key_text().reveal(), ELSEWHERE_KEY)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def client(product: Product) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{product.url}/v1", api_key=product.key, max_retries=0, timeout=120)
