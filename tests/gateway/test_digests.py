"""Digests of prompts and answers: the same text has the same digest, streamed or whole."""

from __future__ import annotations

import hashlib
import hmac
import json

from hypothesis import given
from hypothesis import strategies as st

from serving.gateway.digests import AnswerDigests, Digester, NoDigests, prompt_bytes
from tests.local import DONE, ROLE, USAGE, Tree, chat, event, word


def keyed() -> Digester:
    return hmac.new(b"secret", digestmod=hashlib.sha256)


def of(text: str) -> str:
    return hmac.new(b"secret", text.encode(), hashlib.sha256).hexdigest()


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=8))
def test_an_answer_has_one_digest_however_it_was_cut(pieces: list[str]) -> None:
    digests = AnswerDigests(keyed)
    digests.events(ROLE)
    for piece in pieces:
        digests.events(word(piece))
    digests.events(event(choices=[], usage=USAGE) + DONE)
    assert digests.answers() == [of("".join(pieces))]


def test_a_whole_answer_has_the_same_digest_as_its_stream() -> None:
    digests = AnswerDigests(keyed)
    digests.whole({"choices": [{"index": 0, "message": {"role": "assistant", "content": "lisinopril 10 mg"}}]})
    assert digests.answers() == [of("lisinopril 10 mg")]


def test_each_choice_has_its_own_in_their_order() -> None:
    digests = AnswerDigests(keyed)
    for index, text in ((1, "b"), (0, "a"), (1, "c")):
        digests.events(event(choices=[{"index": index, "text": text}]))
    assert digests.answers() == [of("a"), of("bc")]


def test_a_tool_call_is_part_of_the_answer() -> None:
    def call(**function: str) -> Tree:
        return {"index": 0, "delta": {"tool_calls": [{"index": 0, "function": function}]}}

    digests = AnswerDigests(keyed)
    for choice in (call(name="dose"), call(arguments='{"mg":'), call(arguments="10}")):
        digests.events(event(choices=[choice]))
    assert digests.answers() == [of('dose{"mg":10}')]


def test_a_prompts_digest_is_over_its_messages_alone() -> None:
    assert json.loads(prompt_bytes(chat("one", temperature=0))) == chat("one")["messages"]
    assert prompt_bytes({"prompt": [1, 2]}) == b"[1,2]"


def test_switched_off_there_are_none() -> None:
    digests = NoDigests()
    digests.events(word("a"))
    assert digests.answers() == []
