"""What a blocklist finds, what it leaves alone, and how a mistake in it is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.guards.blocklist import BadBlocklist, Blocklist, lines_of
from serving.guards.guard import Passage
from serving.guards.lookback import Lookback


async def blocks(guard: Blocklist, text: str) -> bool:
    return (await guard.check_prompt([text])).blocks


@pytest.mark.parametrize(
    "text",
    ["Straße", "die STRASSE.", "(straße)", "Straße, e\u0301tage", "ÉTAGE", "heart  \n attack", "a #tag b", "x#tags"],
)
async def test_a_term_is_found_in_any_case_form_and_spacing(text: str) -> None:
    assert await blocks(Blocklist("l", terms=["straße", "étage", "Heart attack", "#tag"]), text) == ("tags" not in text)


@pytest.mark.parametrize("text", ["assessment", "grass", "ass_x", "ass\u0301", "ass1", "ässe", "heartattack", ""])
async def test_a_term_is_not_found_inside_another_word(text: str) -> None:
    assert not await blocks(Blocklist("l", terms=["ass", "heart attack"]), text)


async def test_a_regular_expression_is_searched_for_as_it_is() -> None:
    guard = Blocklist("l", patterns=[("line 1", r"(?i)\bproject[- ]x\b"), ("line 2", "^secret")])
    assert [await blocks(guard, text) for text in ("a Project-X b", "project xy", "secret", "a secret")] == [
        True, False, True, False,
    ]  # fmt: skip


async def test_a_pattern_that_would_hang_a_backtracking_engine_takes_its_time_by_length() -> None:
    assert not await blocks(Blocklist("l", patterns=[("line 1", "(a+)+$")]), "a" * 50_000 + "b")


@pytest.mark.parametrize(
    ("pattern", "reason"), [("(a", "not a regular expression of RE2: missing"), ("a(?=b)", "RE2"), ("a*", "empty text")]
)
def test_a_bad_pattern_is_named_by_list_and_line(pattern: str, reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BadBlocklist, match=f"blocklist 'drugs', words.txt, line 7: .*{reason}"):
        Blocklist("drugs", patterns=[("words.txt, line 7", pattern)])
    assert capfd.readouterr().err == ""


def test_a_file_has_one_entry_a_line(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# comment\n\n first \nsecond term\n", encoding="utf-8")
    assert [(place.rsplit(", ")[-1], entry) for place, entry in lines_of(path)] == [
        ("line 3", "first"),
        ("line 4", "second term"),
    ]


@pytest.mark.parametrize(
    ("content", "reason"), [(b"\xff", "not UTF-8"), (b"x" * 1001, "line 1 is longer"), (None, "No such")]
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadBlocklist, match=f"words.txt.*{reason}"):
        list(lines_of(path))


async def test_text_is_held_only_while_it_may_be_the_beginning_of_a_term() -> None:
    lookback, text = Lookback(Blocklist("l", terms=["heart attack"])), "my heart at rest, heart attach"
    held = []
    for character in text:
        await lookback.feed(character)
        held.append(lookback.seen - lookback.cleared)
    assert [held[text.index(word) + len(word) - 1] for word in ("my", "rest", "attach")] == [0, 0, 0]
    assert held[text.index("heart at") + 7] == 8 and max(held) == len("heart attac")


async def test_a_list_of_regular_expressions_holds_its_window_and_keeps_little() -> None:
    guard = Blocklist("l", patterns=[("line 1", "a.{1,9}b")], window=50)
    lookback = Lookback(guard)
    for _ in range(3000):
        await lookback.feed("xyz ")
        assert lookback.seen - lookback.cleared <= 50
        assert len(lookback._text) <= 2 * 50 + 512 + 5


async def test_what_is_said_of_an_answer_holds_none_of_it() -> None:
    verdict = await Blocklist("l", terms=["secret"]).check_answer(Passage("a secret", opens=True, closes=True))
    assert verdict.blocks and "secret" not in str(verdict)
