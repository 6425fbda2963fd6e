"""One guard on one text of an answer as it grows: what to look at, and how much of it may go out.

The text is looked at in passages at fixed places, [k*step - window, (k+1)*step): any match of up to `window` characters
lies whole in one of them, and what is found does not depend on how the text arrives. A quick guard that blocks also
looks at the newest end with each event, so that text is held back no longer than it must.
"""

from __future__ import annotations

from serving.guards.guard import FAILED, NOTHING, Guard, GuardUnavailable, Passage, Verdict

_QUICK_STEP = 512
"""Characters. A passage costs some microseconds to start, so a quick guard's are not shorter."""


class Lookback:
    """`cleared`: how many characters of the text, from its beginning, may be sent. Keeps 2 * window + step characters
    and what came last. All that is found is in `verdict`; once that blocks, nothing more may be fed.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._step = guard.step or max(_QUICK_STEP, guard.window)
        self._holds = guard.mode == "block"
        self._text = ""
        self._base = 0
        """Where `_text` begins."""
        self._from = 0
        """Where the next passage's own part begins; what is before has been looked at."""
        self._looked = 0
        """How far the newest end has been looked at."""
        self._paused = 0
        self.verdict: Verdict = NOTHING
        self.cleared = 0

    @property
    def seen(self) -> int:
        return self._base + len(self._text)

    async def feed(self, text: str) -> None:
        self._text += text
        while self.seen > self._from + self._step:
            end = self._from + self._step
            if (await self._look(self._from, end)).blocks:
                return
            self._from = self._looked = end
            self.cleared = max(self.cleared, end - self._guard.window)
        self._forget()
        if not self._holds:
            self.cleared = self.seen
        elif not self._guard.step:
            verdict = await self._look(self._looked, None)
            if verdict.blocks:
                return
            undecided = self._guard.window if verdict.undecided is None else verdict.undecided
            self._looked = self.seen
            self.cleared = max(self.cleared, self.seen - undecided)

    async def pause(self) -> None:
        """The text ends here, as far as one can know. Should it go on, then what was looked at is remembered."""
        if self.seen > self._paused and not (await self._look(self._from, self.seen)).blocks:
            self.cleared = self._paused = self.seen

    async def _look(self, begin: int, end: int | None) -> Verdict:
        """At the passage whose own part is [begin, end), and at what comes before it. end: None, the newest end with
        what may follow; else, if it is the text's end, nothing follows.
        """
        if self.verdict.decision == "failed":
            return FAILED  # a service that is away was waited for once
        first = max(0, begin - self._guard.window)
        opens, closes = first == 0, end == self.seen
        start = first - (not opens) - self._base
        stop = len(self._text) if end is None else end + (not closes) - self._base
        try:
            verdict = await self._guard.check_answer(Passage(self._text[start:stop], opens, closes))
        except GuardUnavailable:
            self.verdict = self.verdict.with_(FAILED)
            raise
        if self.verdict is NOTHING or verdict.decision != "passed":  # of one guard, all of those are alike
            self.verdict = self.verdict.with_(verdict)
        return verdict

    def _forget(self) -> None:
        needless = self._from - self._guard.window - 1 - self._base
        if needless > 0:
            self._text = self._text[needless:]
            self._base += needless
