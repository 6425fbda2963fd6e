"""What is going on and for how long, on a terminal and in a log alike."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

_REMIND_SECONDS = 15.0


class Progress:
    """Steps with their times: a spinner on a terminal, a line at the end and a reminder in between elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._started = time.monotonic()

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Gives a function that says how far it is."""
        began = time.monotonic()
        with self._busy(title) as say:
            yield say
        self.done(title, time.monotonic() - began)

    def done(self, title: str, seconds: float | None = None) -> None:
        took = time.monotonic() - self._started if seconds is None else seconds
        self.console.print(f"[green]✓[/] {title} [dim]{took:.1f} s[/]")

    @contextmanager
    def _busy(self, title: str) -> Iterator[Callable[[str], None]]:
        if sys.stdout.isatty():
            with self.console.status(title) as status:
                yield lambda text: status.update(f"{title}: {escape(text)}")
            return
        said = ""

        def say(text: str) -> None:
            nonlocal said
            said = f": {text}"

        finished = threading.Event()
        began = time.monotonic()

        def remind() -> None:
            while not finished.wait(_REMIND_SECONDS):
                self.console.print(f"… {title}, {time.monotonic() - began:.0f} s so far{said}", markup=False)

        thread = threading.Thread(target=remind, daemon=True)
        thread.start()
        try:
            yield say
        finally:
            finished.set()
            thread.join()
