"""The gate before vLLM's engine: what has a schema goes through it, in whatever way it came, and nothing else does."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

import pytest

from serving.deployments.schema_gate import SchemaGate
from serving.grammars.compiler import Kind, Verdict


class Compiler:
    """Says what it is told to say, and keeps what it was asked."""

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict
        self.asked: list[tuple[str, str, str]] = []

    async def verdict(self, kind: Kind, text: str, owner: str = "") -> Verdict:
        self.asked.append((kind, text, owner))
        return self._verdict


class EngineClient:
    """As vLLM's, as far as the gate knows it."""

    def __init__(self) -> None:
        self.begun = 0
        self.closed = 0

    async def generate(self, prompt: Any, sampling_params: Any, request_id: str) -> AsyncGenerator[str, None]:
        self.begun += 1
        try:
            yield "one"
            yield "two"
        finally:
            self.closed += 1


def asking(**wanted: Any) -> SimpleNamespace:
    fields = {"json": None, "json_object": None, "structural_tag": None, "regex": None, "grammar": None, "choice": None}
    return SimpleNamespace(structured_outputs=SimpleNamespace(**fields | wanted))


@pytest.mark.parametrize(
    ("wanted", "asked"),
    [
        ({"json": {"type": "string"}}, [("json", '{"type": "string"}', "salt")]),
        ({"json": '{"type": "string"}'}, [("json", '{"type": "string"}', "salt")]),
        ({"json": {}}, [("json", "{}", "salt")]),
        ({"structural_tag": '{"type": "x"}'}, [("structural_tag", '{"type": "x"}', "salt")]),
        ({"json_object": True}, []),
    ],
)
async def test_what_a_request_wants_is_compiled_first(wanted: Any, asked: Any) -> None:
    compiler, engine = Compiler("good"), EngineClient()
    generate = SchemaGate(compiler).guarding(engine.generate)  # type: ignore[arg-type]
    outputs = [one async for one in generate({"cache_salt": "salt"}, asking(**wanted), "req_1")]
    assert (outputs, compiler.asked) == (["one", "two"], asked)


async def test_a_request_without_a_schema_has_vllms_own_generator() -> None:
    engine = EngineClient()
    generate = SchemaGate(Compiler("dear")).guarding(engine.generate)  # type: ignore[arg-type]
    for params in (SimpleNamespace(structured_outputs=None), SimpleNamespace()):
        one = generate("prompt", params, request_id="req_1")
        assert one.ag_code is EngineClient.generate.__code__
        await one.aclose()


@pytest.mark.parametrize(
    ("verdict", "wanted", "status"),
    [
        ("dear", {"json": {}}, 400), ("invalid", {"json": {}}, 400), ("ignored", {"structural_tag": "{}"}, 400),
        ("empty", {"json": {}}, 400), ("busy", {"json": {}}, 503),
        ("good", {"regex": "a"}, 400), ("good", {"grammar": "root ::= a"}, 400), ("good", {"choice": ["a"]}, 400),
    ],
)  # fmt: skip
async def test_any_other_verdict_keeps_it_from_the_engine(verdict: Verdict, wanted: Any, status: int) -> None:
    error_response = pytest.importorskip("vllm.entrypoints.serve.exception_handling.error_response")
    engine = EngineClient()
    generate = SchemaGate(Compiler(verdict)).guarding(engine.generate)  # type: ignore[arg-type]
    with pytest.raises(Exception, match=r"^grammar:[a-z]+$") as refused:
        await anext(generate({}, asking(**wanted), "req_1"))
    assert error_response.create_error_response(refused.value).error.code == status and engine.begun == 0


async def test_a_client_that_leaves_stops_the_engines_work() -> None:
    engine = EngineClient()
    one = SchemaGate(Compiler("good")).guarding(engine.generate)({}, asking(json={}), "req_1")  # type: ignore[arg-type]
    assert await anext(one) == "one"
    await one.aclose()
    assert engine.closed == 1
