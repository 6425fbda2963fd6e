"""Blocklists: terms and regular expressions that must not occur. With RE2, whose time is linear in the text."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import re2

from serving.guards.guard import BOTH, Mode, Passage, Stage, Verdict
from serving.guards.results import BLOCKLISTS
from serving.guards.terms import Terms, options
from serving.guards.texts import well_formed

_MAX_LINES = 50_000
_MAX_LINE = 1000
_FEW, _SHORT = 100, 64 * 2**10
"""Texts of a prompt, and their characters, up to which they are searched at once: others wait meanwhile."""


class BadBlocklist(Exception):
    """A list cannot be used. The message names the list, the line and the remedy."""


class Blocklist:
    """A Guard. window: characters of the longest match of a regular expression that counts; terms need none.

    terms, patterns: with the name of the place that each comes from, such as `line 3`. Raises BadBlocklist.
    """

    step = 0

    def __init__(
        self,
        name: str,
        *,
        terms: Iterable[str] = (),
        patterns: Iterable[tuple[str, str]] = (),
        mode: Mode = "block",
        stages: frozenset[Stage] = BOTH,
        window: int = 128,
    ) -> None:
        self.name, self.mode, self.stages = name, mode, stages
        self._terms = Terms(terms)
        compiled = [_compiled(name, place, pattern) for place, pattern in patterns]
        self._patterns = _together(name, compiled)
        # A character more on each side: it tells whether a match is a whole word.
        self.window = max(self._terms.longest + 1, window if compiled else 0)
        self._passed = Verdict({BLOCKLISTS: {"filtered": False, "details": []}})
        blocks = mode == "block"
        found = {"filtered": blocks, "details": [{"filtered": blocks, "id": name}]}
        self._found = Verdict({BLOCKLISTS: found}, "blocked" if blocks else "annotated")

    async def check_prompt(self, texts: Sequence[str]) -> Verdict:
        large = len(texts) > _FEW or sum(map(len, texts)) > _SHORT
        found = await asyncio.to_thread(self._any_holds, texts) if large else self._any_holds(texts)
        return self._found if found else self._passed

    async def check_answer(self, passage: Passage) -> Verdict:
        text = well_formed(passage.text)
        if self._holds(text, passage.begin, passage.end):
            return self._found
        if self._patterns is not None or passage.closes:
            return self._passed
        return Verdict(self._passed.results, undecided=self._terms.undecided(text))

    async def close(self) -> None:
        return None

    def _any_holds(self, texts: Sequence[str]) -> bool:
        return any(self._holds(well_formed(text)) for text in texts)

    def _holds(self, text: str, begin: int = 0, end: int | None = None) -> bool:
        end = len(text) if end is None else end
        if self._terms.found_in(text, begin, end):
            return True
        return self._patterns is not None and self._patterns.search(text, begin, end) is not None


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """The entries of a file of one a line, each with its place; blank lines and those that begin with # left out.

    Raises BadBlocklist.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BadBlocklist(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadBlocklist(f"{path}: not UTF-8") from None
    if len(lines) > _MAX_LINES:
        raise BadBlocklist(f"{path}: more than {_MAX_LINES} lines")
    for number, line in enumerate(lines, start=1):
        entry = line.strip()
        if len(entry) > _MAX_LINE:
            raise BadBlocklist(f"{path}: line {number} is longer than {_MAX_LINE} characters")
        if entry and not entry.startswith("#"):
            yield f"{path}, line {number}", entry


def _compiled(name: str, place: str, pattern: str) -> str:
    """The pattern, when it is one that can be used."""
    try:
        one = re2.compile(pattern, options())
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if error.args else "not valid"
        raise BadBlocklist(f"blocklist '{name}', {place}: not a regular expression of RE2: {reason}") from None
    if one.fullmatch("") is not None:
        raise BadBlocklist(f"blocklist '{name}', {place}: it matches the empty text, so it would block everything")
    return pattern


def _together(name: str, patterns: Sequence[str]) -> Any:
    """One pattern for all; None for none."""
    if not patterns:
        return None
    try:
        return re2.compile("|".join(f"(?:{pattern})" for pattern in patterns), options())
    except re2.error:
        raise BadBlocklist(f"blocklist '{name}': its regular expressions are too large together; split it") from None
