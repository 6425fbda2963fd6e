"""Two replicas of the demo model with LoRA adapters, on real vLLM: caches found again, adapters that come and go."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from openai.types.chat import ChatCompletion

from loadtests.routing.conversations import conversations
from tests.e2e.product import ROOT, Product

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

BASE = "clinical-demo"
RADIOLOGY = f"{BASE}:radiology"
NOTE = (
    "Patient: 67-year-old woman. Problems: hypertension. Medications: lisinopril 10 mg daily. "
    "Allergies: penicillin (rash). Which medications does she take?"
)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    folder = tmp_path_factory.mktemp("config")
    for name in ("demo-adapters.yaml", "adapters.yaml"):
        shutil.copy(ROOT / "deploy/configs" / name, folder)
    shutil.copytree(ROOT / "deploy/demo_model", folder.parent / "demo_model", dirs_exist_ok=True)
    running = Product(tmp_path_factory.mktemp("state"), str(folder / "demo-adapters.yaml"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def client(two: Product) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{two.url}/v1", api_key=two.key, max_retries=0, timeout=60)


def asked(client: openai.OpenAI, model: str = BASE, messages: Any = None) -> ChatCompletion:
    messages = messages or [{"role": "user", "content": NOTE}]
    return client.chat.completions.create(model=model, messages=messages, max_tokens=24, temperature=0)


def text(answer: ChatCompletion) -> str:
    return answer.choices[0].message.content or ""


def listed(client: openai.OpenAI) -> list[str]:
    return [model.id for model in client.models.list().data]


def soon(holds: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.2)


def edit(two: Product, change: Callable[[list[dict[str, str]]], list[dict[str, str]]]) -> None:
    file = Path(two.config).with_name("adapters.yaml")
    file.write_text(yaml.safe_dump(change(yaml.safe_load(file.read_text()))))


def test_every_turn_of_a_conversation_finds_its_replica_again(client: openai.OpenAI) -> None:
    for conversation in conversations(7, patients=4, visits=8, turns=3, departments=2, times=1):
        messages: list[Any] = list(conversation.messages)
        for number, question in enumerate((*conversation.questions, "")):
            answer = asked(client, messages=messages)
            assert answer.usage is not None and answer.usage.prompt_tokens_details is not None
            cached = answer.usage.prompt_tokens_details.cached_tokens or 0
            assert number == 0 or cached > 0.6 * answer.usage.prompt_tokens
            messages += [{"role": "assistant", "content": text(answer)}, {"role": "user", "content": question}]


def test_an_adapter_answers_under_its_own_name_and_its_base_as_ever(client: openai.OpenAI) -> None:
    adapted, base = asked(client, RADIOLOGY), asked(client)
    assert text(adapted).startswith("Radiology:")
    assert not text(base).startswith("Radiology:")
    assert adapted.model.startswith(f"{RADIOLOGY}@")
    assert text(asked(client, adapted.model)) == text(adapted)
    assert base.model == BASE


def test_requests_of_several_adapters_share_the_engine(client: openai.OpenAI) -> None:
    answers = [asked(client, model) for model in [BASE, RADIOLOGY] * 4]
    assert [text(answer).startswith("Radiology:") for answer in answers] == [False, True] * 4


def test_adapters_come_and_go_while_the_server_runs(two: Product, client: openai.OpenAI) -> None:
    started = {process.pid for process in two.processes() if "VLLM::EngineCore" in " ".join(process.cmdline())}
    edit(two, lambda adapters: [*adapters, adapters[0] | {"name": "oncology"}])
    soon(lambda: f"{BASE}:oncology" in listed(client))
    assert text(asked(client, f"{BASE}:oncology")).startswith("Radiology:")  # the same weights under another name
    edit(two, lambda adapters: adapters[:1])
    soon(lambda: f"{BASE}:oncology" not in listed(client))
    with pytest.raises(openai.NotFoundError):
        asked(client, f"{BASE}:oncology")
    assert text(asked(client, RADIOLOGY)).startswith("Radiology:")
    assert started == {process.pid for process in two.processes() if "VLLM::EngineCore" in " ".join(process.cmdline())}


def test_weights_that_are_not_what_was_pinned_are_not_served(two: Product, client: openai.OpenAI) -> None:
    edit(two, lambda adapters: [*adapters, adapters[0] | {"name": "wrong", "digest": "sha256:" + "0" * 64}])
    soon(lambda: f"{BASE}:wrong" in listed(client))
    with pytest.raises(openai.InternalServerError):
        asked(client, f"{BASE}:wrong")
    assert text(asked(client, RADIOLOGY)).startswith("Radiology:")


def test_usage_and_metrics_tell_the_deployment_and_the_adapter(two: Product, client: openai.OpenAI) -> None:
    asked(client, RADIOLOGY)
    page = httpx.get(two.metrics_url).text
    assert 'clinserve_routed_total{deployment="clinical-demo",why="known"}' in page
    assert 'clinserve_adapter_tokens_total{adapter="radiology",deployment="clinical-demo",type="completion"}' in page
