"""Exact terms, found whatever their case, as whole words."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import re2

_MAX_SPACES = 4
_WORD = r"\p{L}\p{N}\p{M}_"
_SPACE = rf"[\s\p{{Z}}]{{1,{_MAX_SPACES}}}"
_MEMORY = 64 * 2**20
"""For RE2's automaton, in bytes; a list that needs more is slower, never quadratic."""


class Terms:
    """A set of terms. `longest`: characters of the longest match.

    Case is folded as Unicode does it (`STRASSE` is `straße`), both in composed and in decomposed form; a space stands
    for up to four of any kind.
    """

    def __init__(self, terms: Iterable[str]) -> None:
        folded = {form for term in terms for form in _forms(term)} - {""}
        self._sorted = sorted(folded)
        self._first = frozenset(term[0] for term in folded)
        self.longest = max((len(term) + (_MAX_SPACES - 1) * term.count(" ") for term in folded), default=0)
        self._pattern: Any = re2.compile(_any_of(folded), options()) if folded else None

    def found_in(self, text: str, begin: int, end: int) -> bool:
        """Does text[begin:end] hold a term? What stands before and after tells whether it is a word there."""
        if self._pattern is None:
            return False
        before = text[:begin] or "\n"
        after = text[end:] or "\n"
        return self._pattern.search(f"{before}{text[begin:end]}{after}".casefold()) is not None

    def undecided(self, text: str) -> int:
        """How many characters at the end of the text may be a term, or the beginning of one."""
        tail = re.sub(r"\s+", " ", text[-self.longest :].casefold()) if self.longest else ""
        for at, character in enumerate(tail):
            if character not in self._first or (at > 0 and tail[at - 1].isalnum() and character.isalnum()):
                continue  # it begins no term, or it stands inside a word
            if self._begins(tail[at:]):
                # Folding only makes longer, but spaces were made one: count them as many as they can be.
                return len(tail) - at + (_MAX_SPACES - 1) * tail[at:].count(" ")
        return 0

    def _begins(self, text: str) -> bool:
        at = bisect_left(self._sorted, text)
        return at < len(self._sorted) and self._sorted[at].startswith(text)


def options() -> Any:
    """Of every pattern here."""
    chosen = re2.Options()
    chosen.max_mem = _MEMORY
    chosen.log_errors = False  # it writes the pattern to standard error
    chosen.never_capture = True
    return chosen


def _forms(term: str) -> set[str]:
    spaced = " ".join(term.split())
    return {unicodedata.normalize(form, spaced).casefold() for form in ("NFC", "NFD")}


def _any_of(terms: Iterable[str]) -> str:
    """A pattern for all of them, each with one character before and after it: RE2's \\b knows ASCII only."""
    edges: dict[tuple[str, str], list[str]] = {}
    for term in sorted(terms):
        escaped = _SPACE.join(re2.escape(word) for word in term.split(" "))
        edges.setdefault((_edge(term[0]), _edge(term[-1])), []).append(escaped)
    return "|".join(f"{left}(?:{'|'.join(words)}){right}" for (left, right), words in edges.items())


def _edge(character: str) -> str:
    """What may stand beside a term that begins or ends so: beside a sign, anything."""
    is_word = character == "_" or unicodedata.category(character)[0] in "LNM"
    return f"[^{_WORD}]" if is_word else "(?s:.)"
