"""What a replica keeps of vLLM's counts. Against the real vLLM: tests/e2e/test_accounting.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from serving.deployments.tallies import Tallies

ID = "req_" + "0" * 24


def state(external: str, *, prompt: int = 10, cached: int = 2, generated: int = 3, prefilling: bool = False) -> Any:
    """The part of vLLM's RequestState that is read."""
    return SimpleNamespace(
        external_req_id=external,
        is_prefilling=prefilling,
        prompt_len=prompt,
        num_cached_tokens=cached,
        stats=SimpleNamespace(num_generation_tokens=generated),
    )


def processor(**states: Any) -> Any:
    return SimpleNamespace(request_states=dict(states))


async def test_a_request_that_ended_has_its_counts() -> None:
    tallies, engine = Tallies(), processor(a=state(f"chatcmpl-{ID}"))
    tallies.watch(engine)
    engine.request_states.pop("a")
    assert await tallies.of(ID) == {"prompt": 10, "cached": 2, "completion": 3}


async def test_several_answers_add_up_and_share_their_prompt() -> None:
    tallies, engine = Tallies(), processor(a=state(f"chatcmpl-{ID}"), b=state(f"chatcmpl-{ID}", generated=5))
    tallies.watch(engine)
    for part in ("a", "b"):
        engine.request_states.pop(part)
    assert await tallies.of(ID) == {"prompt": 10, "cached": 2, "completion": 8}


async def test_several_prompts_each_count() -> None:
    tallies, engine = Tallies(), processor(a=state(f"cmpl-{ID}-0"), b=state(f"cmpl-{ID}-1"))
    tallies.watch(engine)
    for part in ("a", "b"):
        engine.request_states.pop(part)
    assert await tallies.of(ID) == {"prompt": 20, "cached": 4, "completion": 6}


async def test_a_prompt_that_was_never_computed_costs_nothing() -> None:
    tallies, engine = Tallies(), processor(a=state(f"chatcmpl-{ID}", generated=0, prefilling=True))
    tallies.watch(engine)
    engine.request_states.pop("a")
    assert await tallies.of(ID) == {"prompt": 0, "cached": 0, "completion": 0}


async def test_nobody_knows_a_request_that_never_came() -> None:
    assert await Tallies().of(ID) is None


def test_the_dictionary_of_states_stays_one() -> None:
    tallies, engine = Tallies(), processor(a=state("other"))
    tallies.watch(engine)
    engine.request_states["b"] = state("another")
    assert engine.request_states.pop("b").external_req_id == "another"
    assert engine.request_states.pop("b", None) is None
    assert list(engine.request_states) == ["a"]
