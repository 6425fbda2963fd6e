"""What a guard is, and what it says of a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from serving.errors import ServingError
from serving.guards.results import Results, merged

Mode = Literal["annotate", "block"]
Stage = Literal["prompt", "answer"]
Decision = Literal["passed", "annotated", "failed", "blocked"]
BOTH: frozenset[Stage] = frozenset({"prompt", "answer"})

_GRAVITY: dict[Decision, int] = {"passed": 0, "annotated": 1, "failed": 2, "blocked": 3}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a guard says of a text. results: for the client, by Azure's category; never of the text itself.

    undecided: how many characters at the text's end may yet become the beginning or the whole of a match, by what
    follows; None for as many as the guard's window. Of a passage of an answer only.
    """

    results: Results
    decision: Decision = "passed"
    undecided: int | None = None

    @property
    def blocks(self) -> bool:
        return self.decision == "blocked"

    def with_(self, other: Verdict) -> Verdict:
        """Both as one, of one guard about several texts or of several guards about one."""
        if other is NOTHING:
            return self
        graver = max(self.decision, other.decision, key=_GRAVITY.__getitem__)
        return Verdict(merged(self.results, other.results), graver)


NOTHING = Verdict({})
"""Of a guard that was not asked."""
FAILED = Verdict({}, "failed")


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of an answer's text.

    opens: it begins where the text does; else its first character only shows what stands before. closes: it ends where
    the text ends; else its last character only shows what comes after.
    """

    text: str
    opens: bool
    closes: bool

    @property
    def begin(self) -> int:
        return 0 if self.opens else 1

    @property
    def end(self) -> int:
        return len(self.text) if self.closes else len(self.text) - 1


class Guard(Protocol):
    """Looks at texts. Contract, checked by tests/guards/test_any_cut.py:

    - Neither what it raises nor what it says holds any of the text.
    - What is found in a passage is also found in a longer one that holds it; so it does not matter how an answer is
      cut, as long as passages overlap by `window`, the length in characters of its longest match.
    - `step`: 0, it is quick and sees each event of a stream; else it is slow and sees so many characters at a time.
    """

    @property
    def name(self) -> str: ...
    @property
    def mode(self) -> Mode: ...
    @property
    def stages(self) -> frozenset[Stage]: ...
    @property
    def window(self) -> int: ...
    @property
    def step(self) -> int: ...

    async def check_prompt(self, texts: Sequence[str]) -> Verdict:
        """Of all the texts of one prompt. Raises GuardUnavailable."""
        ...

    async def check_answer(self, passage: Passage) -> Verdict:
        """Of a passage of an answer. Raises GuardUnavailable."""
        ...

    async def close(self) -> None:
        """Release connections. May be called twice."""
        ...


class GuardUnavailable(ServingError):
    """A guard is away that must not be: the prompt, or the rest of an answer, is refused.

    Not `free`, so that it does not spill over to a deployment without the guard; what it has cost is reckoned.
    """

    status, kind, code = 503, "server_error", "guard_unavailable"
    default_message = "A content filter of this deployment cannot be reached. Try again shortly."
