"""Claims about the generated notes and dialogues, and about the files of the bundled demonstration model."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

SOURCE = Path(__file__).parents[2] / "deploy" / "demo_model"
BUNDLE = SOURCE / "clinical-demo"
EMBEDDING = SOURCE / "clinical-embed"
LIMIT_BYTES = 25 * 1024 * 1024


@pytest.fixture(scope="module")
def notes() -> Iterator[ModuleType]:
    """The generator module, which runs as a script next to its vocabulary."""
    sys.path.insert(0, str(SOURCE))
    try:
        yield importlib.import_module("notes")
    finally:
        sys.path.remove(str(SOURCE))
        sys.modules.pop("notes", None)
        sys.modules.pop("vocabulary", None)


def test_the_same_seed_gives_the_same_note(notes: ModuleType) -> None:
    assert notes.make_note(Random(7)) == notes.make_note(Random(7))
    assert notes.make_dialogue(11) == notes.make_dialogue(11)


def test_different_seeds_give_different_notes(notes: ModuleType) -> None:
    texts = {notes.make_note(Random(seed)).text for seed in range(300)}
    assert len(texts) == 300


def test_every_fact_is_in_the_note_and_in_the_answer(notes: ModuleType) -> None:
    checked = 0
    for seed in range(600):
        dialogue = notes.make_dialogue(seed)
        for turn in dialogue.turns:
            for fact in turn.facts:
                assert fact in dialogue.note.text, (seed, turn)
                assert fact in turn.answer, (seed, turn)
                checked += 1
    assert checked > 1000


def test_the_note_is_in_the_prompt_before_any_answer_about_it(notes: ModuleType) -> None:
    for seed in range(300):
        dialogue = notes.make_dialogue(seed)
        if not dialogue.turns:
            continue
        first = next(i for i, m in enumerate(dialogue.messages) if m["content"] == dialogue.turns[0].answer)
        assert any(dialogue.note.text in m["content"] for m in dialogue.messages[:first]), seed


def test_every_assistant_message_has_a_kind(notes: ModuleType) -> None:
    for seed in range(300):
        dialogue = notes.make_dialogue(seed)
        assert len(dialogue.kinds) == sum(m["role"] == "assistant" for m in dialogue.messages)
        assert dialogue.messages[-1]["role"] == "assistant"


def test_every_kind_of_question_occurs(notes: ModuleType) -> None:
    seen = {kind for seed in range(1500) for kind in notes.make_dialogue(seed).kinds}
    assert {*notes.NOTE_KINDS, *notes.CHAT_KINDS, "tool call"} <= seen


def test_held_out_seeds_do_not_collide_with_training_seeds(notes: ModuleType) -> None:
    assert notes.training_seed(notes.HELD_OUT_FIRST_SEED - 1) < notes.held_out_seed(0)
    with pytest.raises(ValueError, match="out of range"):
        notes.training_seed(notes.HELD_OUT_FIRST_SEED)
    with pytest.raises(ValueError, match="out of range"):
        notes.held_out_seed(-1)


def test_held_out_notes_are_not_training_notes(notes: ModuleType) -> None:
    training = {d.note.text for i in range(400) if (d := notes.make_dialogue(notes.training_seed(i))).note}
    held_out = {d.note.text for i in range(400) if (d := notes.make_dialogue(notes.held_out_seed(i))).note}
    assert not training & held_out


def test_answers_without_a_note_say_that_this_is_a_demonstration(notes: ModuleType) -> None:
    rng = Random(3)
    for kind in notes.CHAT_KINDS:
        _, answer = notes.plain_question(rng, kind)
        assert "demonstration model" in answer
        assert "not for clinical use" in answer


def test_json_answers_parse(notes: ModuleType) -> None:
    rng = Random(5)
    for _ in range(50):
        turn = notes.make_turn(rng, notes.make_note(rng), "json")
        assert json.loads(turn.answer)


def test_there_are_enough_drugs_and_problems_for_novel_combinations(notes: ModuleType) -> None:
    vocabulary = notes.v
    assert len(vocabulary.DRUGS) >= 100
    assert len(set(vocabulary.PROBLEMS)) == len(vocabulary.PROBLEMS) >= 80


def test_every_module_opens_with_a_docstring() -> None:
    for path in SOURCE.glob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path.name


def test_the_bundle_is_complete_and_small() -> None:
    sizes = {path.name: path.stat().st_size for path in BUNDLE.iterdir()}
    assert {
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    } <= sizes.keys()
    assert 0 < sizes["model.safetensors"] <= LIMIT_BYTES
    assert sum(sizes.values()) <= LIMIT_BYTES
    assert (BUNDLE / "chat_template.jinja").read_bytes() == (SOURCE / "chat_template.jinja").read_bytes()


def test_the_embedding_bundle_is_complete_and_small() -> None:
    sizes = {path.name: path.stat().st_size for path in EMBEDDING.iterdir()}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} == sizes.keys()
    assert sum(sizes.values()) <= LIMIT_BYTES / 4
    assert (EMBEDDING / "README.md").read_bytes() == (SOURCE / "embedding_card.md").read_bytes()


def test_a_paraphrase_has_the_facts_of_its_note(notes: ModuleType) -> None:
    for seed in range(50):
        note = notes.make_note(Random(seed))
        again = notes.rewritten(Random(seed + 1000), note)
        assert all(fact in again.text for fact in (*note.medications, *note.problems))


def test_the_cards_say_that_the_models_are_not_for_clinical_use() -> None:
    for card in (SOURCE / "README.md", BUNDLE / "README.md", EMBEDDING / "README.md"):
        text = card.read_text(encoding="utf-8")
        assert "demonstration" in text
        assert "NOT for clinical use" in text
