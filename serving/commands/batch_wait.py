"""Waiting for a batch: a bar on a terminal, a line now and then elsewhere, both on standard error."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from serving.commands.remote import CannotAsk

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 3.0
_REMIND_SECONDS = 30.0
_PATIENCE = 600.0
"""Seconds for which a server may be away: it goes on with the batch when it is back."""
_ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


def ended(batch: Batch) -> bool:
    return batch.status in _ENDED


def wait_for(client: OpenAI, id: str) -> Batch:
    """The batch, once it has ended. Ctrl-C ends the waiting only. Raises CannotAsk when the server stays away."""
    pause = _FIRST_PAUSE
    with _Shown() as shown:
        while True:
            batch = _asked(client, id, shown.away)
            shown.now(batch)
            if ended(batch):
                return batch
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, 1.2 * pause)


def _asked(client: OpenAI, id: str, on_away: Callable[[], None]) -> Batch:
    import openai

    end = time.monotonic() + _PATIENCE
    while True:
        try:
            return client.batches.retrieve(id)
        except (openai.APIConnectionError, openai.InternalServerError):
            if time.monotonic() > end:
                raise CannotAsk(
                    f"the server does not answer any more. The batch goes on when it does: clinserve batch wait {id}"
                ) from None
            on_away()
            time.sleep(_LONGEST_PAUSE)


class _Shown:
    """How far a batch is."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[failed]} failed"),
            _Rate(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("waiting", total=0, failed=0)
        self._said, self._said_at = "", 0.0

    def __enter__(self) -> _Shown:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def now(self, batch: Batch) -> None:
        counts = batch.request_counts
        done, total, failed = (counts.completed + counts.failed, counts.total, counts.failed) if counts else (0, 0, 0)
        self._bar.update(self._task, description=batch.status, completed=done, total=total, failed=failed)
        self._say(batch.status, f"{batch.status} {done}/{total}, {failed} failed")

    def away(self) -> None:
        self._bar.update(self._task, description="server away")
        self._say("away", "the server does not answer; asking again")

    def _say(self, what: str, text: str) -> None:
        """Without a terminal: what is new, and now and then what is not."""
        if self._console.is_terminal or (what == self._said and time.monotonic() - self._said_at < _REMIND_SECONDS):
            return
        self._said, self._said_at = what, time.monotonic()
        self._console.print(text, markup=False)


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.1f}/s")
