"""Before vLLM's engine gets a schema, it is compiled aside: whatever request it came in, as vLLM has put it together.

The gate stands where vLLM hands a request to its engine, behind its reading of tools and formats, so that nothing which
the engine would compile goes around it. That it stands there is no public API of vLLM's: `generate` of its engine
client and the fields of its sampling parameters are used here only, pinned, and tests/e2e tries them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Callable
from http import HTTPStatus
from typing import Any, Protocol

from serving.grammars.compiler import Kind, SchemaCompiler, Verdict
from serving.grammars.worker import Setup
from serving.settings import GrammarLimits

_log = logging.getLogger(__name__)
_MOST_THREADS = 8
"""As many as vLLM gives xgrammar."""
_WALL = 5.0
"""Times the CPU time: what a machine that is busy may take for it."""


class Gate(Protocol):
    async def close(self) -> None: ...


class NoGate:
    """Of a model that writes nothing."""

    async def close(self) -> None:
        return None


class SchemaGate:
    def __init__(self, compiler: SchemaCompiler) -> None:
        self._compiler = compiler

    @classmethod
    async def before(cls, engine_client: Any, limits: GrammarLimits) -> SchemaGate:
        """A gate before vLLM's engine client. Raises OSError, TimeoutError, EOFError when it cannot work."""
        threads = min(_MOST_THREADS, os.cpu_count() or 1)
        vocabulary, any_whitespace = await asyncio.to_thread(_vocabulary_of, engine_client.vllm_config)
        setup = Setup(
            vocabulary=vocabulary,
            any_whitespace=any_whitespace,
            seconds=limits.seconds,
            wall=_WALL * limits.seconds,
            memory=limits.memory,
            threads=threads,
        )
        compiler = SchemaCompiler(setup, processes=limits.processes, waiting=limits.waiting)
        await compiler.start()
        gate = cls(compiler)
        engine_client.generate = gate.guarding(engine_client.generate)
        return gate

    def guarding(self, generate: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., AsyncGenerator[Any, None]]:
        """vLLM's `generate`, for requests with a schema behind the gate. All others pay nothing."""

        def guarded(prompt: Any, sampling_params: Any, *rest: Any, **named: Any) -> AsyncGenerator[Any, None]:
            wanted = getattr(sampling_params, "structured_outputs", None)
            if wanted is None:
                return generate(prompt, sampling_params, *rest, **named)
            tenant = prompt.get("cache_salt", "") if isinstance(prompt, dict) else ""
            return checked(wanted, tenant, lambda: generate(prompt, sampling_params, *rest, **named))

        async def checked(
            wanted: Any, tenant: str, begin: Callable[[], AsyncGenerator[Any, None]]
        ) -> AsyncGenerator[Any, None]:
            await self._check(wanted, tenant)
            async with contextlib.aclosing(begin()) as outputs:
                async for output in outputs:
                    yield output

        return guarded

    async def _check(self, wanted: Any, tenant: str) -> None:
        verdict: Verdict = "good"
        if (asked := grammar_in(wanted)) is not None:
            verdict = await self._compiler.verdict(*asked, owner=tenant)
        if verdict != "good":
            _log.warning("a grammar is refused: %s", verdict)
            raise _error_of(verdict)

    async def close(self) -> None:
        await self._compiler.close()


def grammar_in(wanted: Any) -> tuple[Kind, str] | None:
    """What is to be compiled of vLLM's StructuredOutputsParams, as vLLM would; None: nothing of the caller's. Free
    grammars and expressions are refused: the gateway lets none in.
    """
    import json

    if wanted.json_object:
        return None
    if wanted.json is not None:
        return "json", wanted.json if isinstance(wanted.json, str) else json.dumps(wanted.json)
    if wanted.structural_tag is not None:
        return "structural_tag", wanted.structural_tag
    raise _error_of("invalid")


def _error_of(verdict: Verdict) -> Exception:
    """engines/refusals.py knows these words."""
    from vllm.exceptions import GracefulHTTPError, VLLMValidationError

    error: Exception = VLLMValidationError(f"grammar:{verdict}")
    if verdict == "busy":
        error = GracefulHTTPError("grammar:busy", HTTPStatus.SERVICE_UNAVAILABLE)
    return error


def _vocabulary_of(config: Any) -> tuple[str, bool]:
    """The vocabulary as vLLM's backend tells xgrammar, and whether it lets JSON have any whitespace."""
    from vllm.tokenizers import cached_tokenizer_from_config
    from vllm.v1.structured_output.backend_xgrammar import XgrammarBackend
    from vllm.v1.structured_output.utils import maybe_wrap_mistral_common_tokenizer

    tokenizer = maybe_wrap_mistral_common_tokenizer(cached_tokenizer_from_config(model_config=config.model_config))
    vocab_size = config.model_config.get_vocab_size()
    backend = XgrammarBackend(vllm_config=config, tokenizer=tokenizer, vocab_size=vocab_size)
    compiled = backend.compiler.compile_json_schema('{"type": "boolean"}')
    return compiled.tokenizer_info.serialize_json(), not backend.disable_any_whitespace
