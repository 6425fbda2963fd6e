"""Personal identifiers in prompts and answers, by pattern and check digit. No model, no names: see docs/guards.md."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Sequence

import re2

from serving.guards.guard import BOTH, Mode, Passage, Stage, Verdict
from serving.guards.identifiers import IDENTIFIERS, record_number
from serving.guards.results import PII
from serving.guards.terms import options
from serving.guards.texts import well_formed

_SIGN = re.compile(r"[0-9+(:]")
_AT_A_TIME = 16_384
"""Characters of a prompt that are looked at before other requests have their turn: some milliseconds at worst."""
_OF_A_TEXT = 200
"""Characters that each text counts for beside its own: there may be 65,000 of one character."""


class PiiGuard:
    """A Guard. kinds: names of identifiers.IDENTIFIERS. record_prefixes: of medical record numbers; with none, they are
    not looked for.
    """

    step = 0

    def __init__(
        self,
        name: str,
        *,
        kinds: Collection[str] = tuple(IDENTIFIERS),
        record_prefixes: Sequence[str] = (),
        mode: Mode = "annotate",
        stages: frozenset[Stage] = BOTH,
    ) -> None:
        self.name, self.mode, self.stages = name, mode, stages
        self._kinds = [IDENTIFIERS[kind] for kind in kinds]
        if record_prefixes:
            self._kinds.append(record_number(tuple(record_prefixes)))
        self.window = max((kind.longest for kind in self._kinds), default=0) + 1
        # An e-mail address is one word; of the others, any part may follow a space.
        self._in_words = max((kind.longest for kind in self._kinds if kind.name != "email"), default=0) + 1
        self._prefix = _ends_with_prefix(record_prefixes)
        self._hints = re2.Set.SearchSet(options())
        for kind in self._kinds:
            self._hints.Add(kind.hint)
        self._hints.Compile()

    async def check_prompt(self, texts: Sequence[str]) -> Verdict:
        found: set[str] = set()
        looked_at = 0
        for text in texts:
            for start in range(0, len(text), _AT_A_TIME):
                if looked_at > _AT_A_TIME:
                    looked_at = 0
                    await asyncio.sleep(0)
                looked_at += _OF_A_TEXT + min(len(text) - start, _AT_A_TIME)
                first, last = max(0, start - self.window), min(len(text), start + _AT_A_TIME)
                part = text[max(0, first - 1) : last + 1]
                found |= self._found(Passage(part, opens=first == 0, closes=last == len(text)))
        return self._verdict(found)

    async def check_answer(self, passage: Passage) -> Verdict:
        verdict = self._verdict(self._found(passage))
        if passage.closes or self.mode == "annotate":
            return verdict
        return Verdict(verdict.results, verdict.decision, self._undecided(passage.text))

    async def close(self) -> None:
        return None

    def _found(self, passage: Passage) -> set[str]:
        hinted = self._hints.Match(well_formed(passage.text)) or ()
        kinds = (self._kinds[at] for at in hinted)
        return {kind.name for kind in kinds if kind.found_in(passage.text, passage.begin, passage.end)}

    def _verdict(self, found: Collection[str]) -> Verdict:
        blocks = self.mode == "block" and bool(found)
        results: dict[str, object] = {"filtered": blocks, "detected": bool(found)}
        if found:
            results["sub_categories"] = [
                {"sub_category": name, "filtered": blocks, "detected": True} for name in sorted(found)
            ]
        return Verdict({PII: results}, "blocked" if blocks else "annotated" if found else "passed")

    def _undecided(self, text: str) -> int:
        """From the text's last word, or from where a number or the prefix of one has begun."""
        begins = [_begin_of_word(text, len(text.rstrip()))]
        if sign := _SIGN.search(text, max(0, len(text) - self._in_words)):
            begins.append(_begin_of_word(text, sign.start()))
        if prefix := self._prefix.search(text, max(0, len(text) - self._in_words)):
            begins.append(prefix.start())
        return len(text) - min(begins)


def _begin_of_word(text: str, at: int) -> int:
    return max(text.rfind(space, 0, at) for space in " \n\t") + 1


def _ends_with_prefix(prefixes: Sequence[str]) -> re.Pattern[str]:
    """A record number at a text's end that has just begun: a part of a prefix, or all of it and what follows."""
    if not prefixes:
        return re.compile(r"(?!)")
    parts = {re.escape(prefix[:size]) for prefix in prefixes for size in range(1, len(prefix))}
    whole = "|".join(map(re.escape, prefixes))
    return re.compile(rf"(?i:{'|'.join([*sorted(parts), '(?!)'])})$|(?i:{whole}) ?[:#.=-]? ?[A-Za-z]?[0-9]{{0,12}}$")
