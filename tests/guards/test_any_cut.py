"""For any text and any way to cut it: the stream says what the whole answer says, and never says a match."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.guards.blocklist import Blocklist
from serving.guards.guard import Guard, Passage, Verdict
from serving.guards.guarded import GuardedEngine
from serving.guards.pii import PiiGuard
from tests.guards.answers import answered, choices_of, ended, said, streamed, text_of, whole
from tests.guards.test_pii import REAL
from tests.local import RecordingEngine

WORDS = [
    "foo",
    "Foo bar",
    "foo  bar",
    "bar",
    "foobar",
    "STRASSE",
    "straße",
    "e",
    "é",
    "e\u0301t",
    "ét",
    "x1",
    "😀",
    "#hush",
    "\n",
]
NUMBERS = [
    "a@b.org",
    "4111",
    "1111",
    "4111111111111111",
    "+49",
    "30",
    "1234567",
    "078-05-1120",
    "MRN",
    ":",
    "7",
    "DE89",
]
NUMBERS += ["3704", "0044", "0532", "0130", "00", "943 476 5919", "A123456780", "10.0.0.1", "fe80::1", "(0)", "pain"]


PLAIN = ["pain", "since", "no", "Rx", "fever,", "and"] * 4


def texts(words: list[str]) -> st.SearchStrategy[str]:
    return st.lists(st.tuples(st.sampled_from(words), st.sampled_from(["", " ", "  ", "."])), max_size=40).map(
        lambda pairs: "".join(word + gap for word, gap in pairs)
    )


def pieces(text: str, cuts: list[int]) -> list[str]:
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[begin:end] for begin, end in pairwise(places)]


CUTS = st.one_of(st.lists(st.integers(0, 10_000), max_size=60), st.just(list(range(500))))  # or each character


def terms() -> Guard:
    return Blocklist("list", terms=["foo bar", "straße", "ét", "#hush"])


def patterns() -> Guard:
    return Blocklist(
        "list", terms=["ét"], patterns=[("line 1", r"(?i)\bfoo\s{0,3}bar\b"), ("line 2", "x1$")], window=12
    )


def pii() -> Guard:
    return PiiGuard("pii", mode="block", record_prefixes=["MRN", "Pat Nr"])


async def blocks(guard: Guard, text: str, begin: int, end: int) -> bool:
    """Does the guard find a match in the text behind the character at `begin`, or -1, and before `end`?"""
    passage = Passage(text[max(0, begin) : end + 1], opens=begin < 0, closes=end == len(text))
    return (await guard.check_answer(passage)).blocks


async def end_of_first_match(guard: Guard, text: str) -> int:
    for end in range(1, len(text)):
        if await blocks(guard, text, -1, end):
            return end
    return len(text)


async def check(guard: Guard, text: str, cuts: list[int]) -> str:
    """What was sent, once it is as it must be."""
    stream = await streamed(GuardedEngine(RecordingEngine((*said(*pieces(text, cuts)), ended())), [guard]), n=1)
    (choice,) = (await answered(GuardedEngine(RecordingEngine((whole(text),)), [guard])))["choices"]
    sent, last = text_of(stream), choices_of(stream)[-1]
    assert last["finish_reason"] == choice["finish_reason"]
    if last["finish_reason"] == "stop":
        assert sent == text
        assert not text or last["content_filter_results"] == choice["content_filter_results"]
    assert text.startswith(sent)
    alone = await guard.check_prompt([text])
    assert alone.blocks == (last["finish_reason"] == "content_filter")
    if last["finish_reason"] == "content_filter":
        end = await end_of_first_match(guard, text)
        assert await blocks(guard, text, len(sent) - 1, end)  # none of it was sent
    return sent


@given(texts(WORDS), CUTS)
@settings(max_examples=200, deadline=None)
async def test_terms(text: str, cuts: list[int]) -> None:
    sent = await check(terms(), text, cuts)
    assert not re.search(r"(?i)(?<!\w)foo {1,4}bar(?!\w)(?=.)", sent)


@given(texts(WORDS), CUTS)
@settings(max_examples=200, deadline=None)
async def test_regular_expressions(text: str, cuts: list[int]) -> None:
    await check(patterns(), text, cuts)


@given(texts(PLAIN + NUMBERS), CUTS)
@settings(max_examples=400, deadline=None)
async def test_personal_identifiers(text: str, cuts: list[int]) -> None:
    await check(pii(), text, cuts)


@pytest.mark.parametrize(
    "text", [text for texts in REAL.values() for text in texts] + ["MRN 1111", "Mrn # A1111", "Pat Nr 1111"]
)
async def test_none_of_an_identifier_is_sent_however_slowly_it_comes(text: str) -> None:
    for around in ("{}", "since {} pain", "no pain since {}"):
        whole_text = around.format(text)
        assert whole_text.startswith(await check(pii(), whole_text, list(range(100))))


@given(texts(WORDS + NUMBERS), CUTS)
@settings(max_examples=100, deadline=None)
async def test_a_slow_guard_sees_everything(text: str, cuts: list[int]) -> None:
    await check(Slow(), text, cuts)


@given(texts(WORDS + NUMBERS), CUTS)
@settings(max_examples=100, deadline=None)
async def test_what_is_only_annotated_is_the_same(text: str, cuts: list[int]) -> None:
    guards = [PiiGuard("pii"), Blocklist("list", terms=["foo bar"], mode="annotate")]
    stream = await streamed(GuardedEngine(RecordingEngine((*said(*pieces(text, cuts)), ended())), guards))
    (choice,) = (await answered(GuardedEngine(RecordingEngine((whole(text),)), guards)))["choices"]
    assert text_of(stream) == text
    assert not text or choices_of(stream)[-1]["content_filter_results"] == choice["content_filter_results"]


class Slow:
    """A Guard that looks at 20 characters at a time, and blocks a word."""

    name, mode, stages, window, step = "slow", "block", frozenset({"answer"}), 8, 20

    async def check_prompt(self, texts: list[str]) -> Verdict:
        return await self.check_answer(Passage(texts[0], opens=True, closes=True))

    async def check_answer(self, passage: Passage) -> Verdict:
        found = "foobar" in passage.text[passage.begin : passage.end]
        return Verdict({"custom_topics": {"filtered": found}}, "blocked" if found else "passed")

    async def close(self) -> None: ...
