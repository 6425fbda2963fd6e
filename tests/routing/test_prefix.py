"""A prompt's digests: what they share, what tells them apart, and what is never in them."""

from __future__ import annotations

from typing import Any

import pytest

from serving.engines.engine import EngineRequest, Operation
from serving.routing.prefix import BLOCK, Prefix, prefix_of

SYSTEM = {"role": "system", "content": "You answer questions about one patient's record. " * 30}
RECORD = "Anna Sample, born 1947-02-31. Allergic to penicillin. Lives alone with a cat. " * 60
OTHER = "Bert Example, born 1950-13-01. No known allergies. Lives with his daughter. " * 60


def of(*messages: dict[str, Any], salt: str = "salt", adapter: str = "", operation: Operation = "chat") -> Prefix:
    body = {"messages": list(messages)}
    return prefix_of(EngineRequest(operation, body, stream=True, request_id="req_1", cache_salt=salt, adapter=adapter))


def said(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def shared(one: Prefix, other: Prefix) -> int:
    """Blocks that both begin with."""
    return next((at for at, pair in enumerate(zip(one.blocks, other.blocks, strict=False)) if len({*pair}) > 1), 999)


def test_the_next_turn_begins_with_all_whole_blocks_of_the_last_and_has_the_same_home() -> None:
    first = of(SYSTEM, said(RECORD))
    later = of(SYSTEM, said(RECORD), {"role": "assistant", "content": "To penicillin."}, said("Since when?"))
    assert later.blocks[: len(first.blocks) - 1] == first.blocks[:-1]
    assert later.home == first.home


def test_two_questions_about_one_record_share_it_and_have_one_home() -> None:
    one, other = of(SYSTEM, said(RECORD + "Allergies?")), of(SYSTEM, said(RECORD + "Who lives there?"))
    assert one.home == other.home
    assert shared(one, other) >= len(RECORD) // BLOCK


def test_two_patients_share_the_instructions_only_and_have_homes_of_their_own() -> None:
    one, other = of(SYSTEM, said(RECORD)), of(SYSTEM, said(OTHER))
    assert one.home != other.home
    assert shared(one, other) == len(SYSTEM["content"]) // BLOCK


def test_tools_and_roles_are_part_of_the_beginning() -> None:
    tools = [{"type": "function", "function": {"name": "look_up", "description": "x" * BLOCK}}]
    body = {"messages": [said(RECORD)], "tools": tools}
    with_tools = prefix_of(EngineRequest("chat", body, stream=True, request_id="req_1", cache_salt="salt"))
    assert shared(with_tools, of(said(RECORD))) == 0
    assert shared(of({"role": "system", "content": RECORD}), of(said(RECORD))) == 0


@pytest.mark.parametrize("different", [{"salt": "another"}, {"adapter": "clinical-demo:radiology@0123"}])
def test_tenants_and_adapters_share_nothing(different: dict[str, str]) -> None:
    one, other = of(SYSTEM, said(RECORD)), of(SYSTEM, said(RECORD), **different)
    assert not set(one.blocks) & set(other.blocks)
    assert one.home != other.home


def test_a_digest_is_eight_bytes_whatever_the_text() -> None:
    assert {len(block) for block in of(said(RECORD)).blocks} == {8}


@pytest.mark.parametrize(
    "content",
    [None, "", [], [{"type": "text", "text": RECORD}], [{"type": "image_url", "image_url": {"url": "data:" + RECORD}}]],
)
def test_every_kind_of_content_has_a_prefix(content: Any) -> None:
    prefix = of({"role": "user", "content": content})
    assert bool(prefix.blocks) == bool(content)


@pytest.mark.parametrize("prompt", [RECORD, [RECORD, OTHER], [7] * 2000, [[7] * 2000, [8]]])
def test_completions_are_told_by_their_first_prompt(prompt: Any) -> None:
    body = {"prompt": prompt}
    prefix = prefix_of(EngineRequest("completions", body, stream=True, request_id="req_1", cache_salt="salt"))
    assert len(prefix.blocks) > 8


def test_short_prompts_and_embeddings_have_none() -> None:
    assert of(said("Hello")).blocks == ()
    assert of(said(RECORD), operation="embeddings") == Prefix()


def test_of_a_very_long_prompt_only_the_beginning_is_looked_at() -> None:
    prefix = of(said(RECORD * 100))
    assert len(prefix.blocks) == 256
    assert prefix.size > len(RECORD) * 100
