"""The size of a regular expression's automaton, from its text, without building it.

Counted as Glushkov's automaton has it: a position for each character or class once all repetitions are written out, and
a move for each two positions that may follow each other. Optional parts in a row and repetitions inside repetitions
make moves, and moves are what a compiler spends its time on. xgrammar 0.2.8 with 131,072 tokens, one core:

    ^[a-z]{1,100}$            199   0.15 s        ^([a-z]{1,10}){1,10}$       280   2.0 s
    ^[a-z]?[a-z]?...$ (40)    820   0.93 s        the same, three deep      3,700   more than 20 s
    ^[a-z]?[a-z]?...$ (100) 5,050  11.8 s         ^[a-z]{1,50000}$        100,000   109 s in parsing alone

The language is JavaScript's, as far as xgrammar has it. What it has not (it ignores some of it, and prints the pattern
into its log) is counted as well as can be and named in `unsupported`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_DEEPEST = 32
_QUANTIFIER = re.compile(r"[*+?]|\{(\d*)(?:(,)(\d*))?\}")
_CLASS = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)
_CLASS_ESCAPES = re.compile(r"\\(.)", re.DOTALL)
_ESCAPE = re.compile(
    r"\\(?:u\{[0-9a-fA-F]{1,6}\}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|c[a-zA-Z]|[pP]\{[^}]*\}|.)", re.DOTALL
)
_GROUP = re.compile(r"\(\?(?:(:)|P?<[A-Za-z]+>|(=|!|<=|<!)|([^)]))")
_PLAIN = frozenset("dDwWsSnrtfv0^$.*+?\\()[]{}|/-uxc")
"""Letters and signs that may follow a backslash; xgrammar warns of any other."""


class BadPattern(Exception):
    """It is no regular expression, or one nested deeper than anybody writes. The text of the error is ours."""


class PatternSize(NamedTuple):
    """unsupported: what xgrammar cannot do of it, in our words; empty: nothing."""

    positions: int
    moves: int
    unsupported: str

    @property
    def states(self) -> int:
        return self.positions + self.moves


class _Part(NamedTuple):
    """first, last: positions at which it may begin and end."""

    positions: int
    first: int
    last: int
    moves: int
    nullable: bool

    def then(self, other: _Part) -> _Part:
        return _Part(
            self.positions + other.positions,
            self.first + (other.first if self.nullable else 0),
            other.last + (self.last if other.nullable else 0),
            self.moves + other.moves + self.last * other.first,
            self.nullable and other.nullable,
        )

    def either(self, other: _Part) -> _Part:
        return _Part(
            self.positions + other.positions,
            self.first + other.first,
            self.last + other.last,
            self.moves + other.moves,
            self.nullable or other.nullable,
        )

    def times(self, least: int, most: int | None) -> _Part:
        """most: None is without end."""
        copies = max(least, 1) if most is None else most
        if copies == 0:
            return _EMPTY
        ends = copies if self.nullable else copies - max(least, 1) + 1
        joints = copies * (copies - 1) // 2 if self.nullable else copies - 1
        return _Part(
            copies * self.positions,
            self.first * (copies if self.nullable else 1),
            self.last * ends,
            copies * self.moves + (joints + (most is None)) * self.last * self.first,
            self.nullable or least == 0,
        )


_EMPTY = _Part(0, 0, 0, 0, True)
_ONE = _Part(1, 1, 1, 0, False)


def size_of(pattern: str) -> PatternSize:
    """Raises BadPattern. Takes time in proportion to the pattern's length."""
    return _Reading(pattern).size()


class _Reading:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._unsupported = ""

    def size(self) -> PatternSize:
        whole = self._alternatives(0)
        if self._at < len(self._text):
            raise BadPattern("a ')' has no '('")
        return PatternSize(whole.positions, whole.moves, self._unsupported)

    def _alternatives(self, depth: int) -> _Part:
        if depth > _DEEPEST:
            raise BadPattern(f"its groups are nested deeper than {_DEEPEST}")
        found = self._sequence(depth)
        while self._take("|"):
            found = found.either(self._sequence(depth))
        return found

    def _sequence(self, depth: int) -> _Part:
        found = _EMPTY
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            found = found.then(self._repeated(self._single(depth)))
        return found

    def _repeated(self, part: _Part) -> _Part:
        count = 0
        while quantifier := _QUANTIFIER.match(self._text, self._at):
            self._at = quantifier.end()
            least, most = _range_of(quantifier)
            if most is not None and least > most:
                raise BadPattern("a repetition's largest number is below its smallest")
            if quantifier[1] == "":
                self._cannot("a repetition without its smallest number")
            part = part.times(least, most)
            count += 1
            self._take("?")  # lazy: the same texts match
        if count > 1:
            self._cannot("two repetitions in a row")
        return part

    def _single(self, depth: int) -> _Part:
        sign = self._text[self._at]
        if sign == "(":
            return self._group(depth)
        if sign == "[":
            return self._class()
        if sign == "\\":
            return self._escape()
        if sign in "*+?":
            raise BadPattern("a repetition has nothing to repeat")
        if sign in "^$":
            if self._at != (0 if sign == "^" else len(self._text) - 1):
                self._cannot("'^' but at the beginning and '$' but at the end")
            self._at += 1
            return _EMPTY
        if sign == "{" or sign == "\0":
            self._cannot("a '{' that begins no repetition" if sign == "{" else "the character NUL")
        self._at += 1
        return _ONE

    def _group(self, depth: int) -> _Part:
        looks = False
        if self._text.startswith("(?", self._at):
            head = _GROUP.match(self._text, self._at)
            if head is None:
                raise BadPattern("a group begins in an unknown way")
            looks = head[2] is not None
            if looks:
                self._cannot("looking ahead and behind")
            if head[3] is not None:
                self._cannot("flags and other modifiers of groups")
            self._at = head.end()
        else:
            self._at += 1
        inside = self._alternatives(depth + 1)
        if not self._take(")"):
            raise BadPattern("a '(' has no ')'")
        return _Part(inside.positions, 0, 0, inside.moves, True) if looks else inside

    def _class(self) -> _Part:
        found = _CLASS.match(self._text, self._at)
        if found is None:
            raise BadPattern("a '[' has no ']'")
        self._at = found.end()
        if found[0].startswith(("[]", "[^]")):
            self._cannot("a class that is empty or begins with ']'")
        if any(escaped not in _PLAIN for escaped in _CLASS_ESCAPES.findall(found[0])):
            self._cannot("an escape other than \\d \\w \\s \\n \\r \\t \\f \\v \\xHH \\uHHHH and of signs")
        return _ONE

    def _escape(self) -> _Part:
        found = _ESCAPE.match(self._text, self._at)
        if found is None:
            raise BadPattern("it ends with a '\\'")
        self._at = found.end()
        if found[0][1] not in _PLAIN:
            self._cannot("an escape other than \\d \\w \\s \\n \\r \\t \\f \\v \\xHH \\uHHHH and of signs")
        return _ONE

    def _take(self, sign: str) -> bool:
        taken = self._text.startswith(sign, self._at)
        self._at += taken
        return taken

    def _cannot(self, what: str) -> None:
        self._unsupported = self._unsupported or what


def _range_of(quantifier: re.Match[str]) -> tuple[int, int | None]:
    simple: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}
    if quantifier[0] in simple:
        return simple[quantifier[0]]
    least = int(quantifier[1] or 0)
    if quantifier[2] is None:
        return least, least
    return least, int(quantifier[3]) if quantifier[3] else None
