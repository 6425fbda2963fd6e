"""What is asked: lengths, seeds, turns, and that everything fits a small model."""

from collections import Counter
from random import Random

import pytest

from loadtests.arrivals import Arrival
from loadtests.notes import Notes
from loadtests.traces import Call
from loadtests.workloads import Ask, Batch, Chat, Conversation, Extraction, Record, Shared, Workload

FIRST = Arrival(0, 0.0)
ALL: list[Workload] = [Chat(), Chat(spread=0.5), Record(), Shared(), Conversation(), Extraction(), Batch(lines=3)]


def notes(tokens_per_word: float = 1.0) -> Notes:
    return Notes("seed", tokens_per_word)


def asks(workload: Workload, seed: int = 1, arrival: Arrival = FIRST, text: Notes | None = None) -> list[Ask]:
    """All of a script, with every answer as long as it was asked for."""
    script = workload.script(text or notes(), Random(seed), arrival)
    found = [next(script)]
    while True:
        try:
            found.append(script.send("word " * found[-1].answer_tokens))
        except StopIteration:
            return found


def words(ask: Ask) -> int:
    return sum(len(message["content"].split()) for message in ask.messages)


@pytest.mark.parametrize("workload", ALL, ids=lambda workload: type(workload).__name__)
def test_equal_seeds_ask_the_same_and_others_something_else(workload: Workload) -> None:
    assert asks(workload, 1) == asks(workload, 1) != asks(workload, 2)


@pytest.mark.parametrize("context", [512, 2048, 8192, 131_072])
@pytest.mark.parametrize("workload", ALL, ids=lambda workload: type(workload).__name__)
def test_scaled_to_a_context_every_request_fits_it(workload: Workload, context: int) -> None:
    for seed in range(20):
        for ask in asks(workload.scaled(context), seed):
            assert words(ask) + ask.answer_tokens <= context


def test_a_chat_has_the_length_that_was_asked_for() -> None:
    assert words(asks(Chat(prompt=150))[0]) == pytest.approx(150, abs=8)


def test_tokens_are_counted_as_the_model_counts_them() -> None:
    assert words(asks(Chat(prompt=150), text=notes(1.5))[0]) == pytest.approx(100, abs=8)


def test_a_traces_own_lengths_are_taken() -> None:
    ask = asks(Chat(), arrival=Arrival(0, 0.0, "", Call(0.0, 700, 33)))[0]
    assert words(ask) == pytest.approx(700, abs=8) and ask.answer_tokens == 33


def test_records_are_spread_between_their_ends() -> None:
    lengths = [words(asks(Record(), seed)[0]) for seed in range(60)]
    assert min(lengths) < 10_000 < 25_000 < max(lengths) < 32_500


def test_no_two_prompts_begin_alike_so_no_cache_helps() -> None:
    heads = {asks(Chat(), seed)[0].messages[0]["content"][:15] for seed in range(50)}
    assert len(heads) == 50


def test_few_documents_are_asked_about_often_and_share_their_beginning() -> None:
    text, found = notes(), []
    for seed in range(400):
        found += asks(Shared(documents=20), seed, text=text)
    counts = Counter(ask.messages[0]["content"] for ask in found)
    assert len(counts) <= 20 and counts.most_common(1)[0][1] > 3 * 400 / 20
    assert sum(ask.label == "cold" for ask in found) == len(counts)


def test_a_conversations_turns_hold_all_that_was_said() -> None:
    turns = asks(Conversation(turns=3, answer=5))
    assert [len(turn.messages) for turn in turns] == [1, 3, 5]
    assert turns[2].messages[:3] == turns[1].messages and turns[1].messages[1]["role"] == "assistant"
    assert [turn.label for turn in turns] == ["first turn", "later turns", "later turns"]


def test_extraction_asks_by_a_schema_and_lets_the_answer_end_by_itself() -> None:
    ask = asks(Extraction())[0]
    assert ask.fields and ask.fields["response_format"]["type"] == "json_schema" and not ask.forced


def test_a_batch_is_so_many_different_lines() -> None:
    assert len({ask.messages[0]["content"] for ask in asks(Batch(lines=5))}) == 5
