"""`clinserve top`: a server's figures, live, until q or Ctrl-C."""

from __future__ import annotations

import os
import select
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.live import Live

from serving.commands.figures import rows
from serving.commands.running import CannotReach, NoAnswer, Reading, Remote, TenantUse
from serving.commands.screen import View, screen

WINDOW = 10.0
"""Seconds that rates are means of: fewer would flicker, more would be late."""
_TENANTS_EVERY = 5.0
_TENANTS_LAST = timedelta(minutes=5)
_PIPED_WIDTH = 80


class Watch:
    """Readings of a server, the latest and those of the window before it."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._readings: deque[Reading] = deque()
        self._tenants: Sequence[TenantUse] | None = None
        self._tenants_at = float("-inf")

    def look(self) -> View:
        """What is to be seen now. Raises CannotReach as long as the server has never answered."""
        trouble = None
        try:
            self._read()
        except CannotReach as error:
            if not self._readings:
                raise
            silent = time.monotonic() - self._readings[-1].at
            trouble = f"{'no answer' if isinstance(error, NoAnswer) else error} for {silent:.0f} s; trying again"
        now, before = self._readings[-1], self._readings[0]
        return View(
            url=self._remote.url,
            reading=now,
            rows=rows(now, before),
            tenants=self._tenants,
            now=datetime.now(UTC),
            trouble=trouble,
        )

    def _read(self) -> None:
        reading = self._remote.read()
        if reading.at - self._tenants_at >= _TENANTS_EVERY:
            self._tenants = self._remote.top_tenants(_TENANTS_LAST)
            self._tenants_at = reading.at
        self._readings.append(reading)
        while len(self._readings) > 2 and self._readings[1].at <= reading.at - WINDOW:
            self._readings.popleft()


def top(url: str, key: str | None, *, every: float, frames: int | None) -> None:
    """Show it on a terminal; elsewhere, print one screen after another. frames: how many, then stop.

    Raises CannotReach.
    """
    with Remote(url, key) as remote:
        watch = Watch(remote)
        view = watch.look()  # a wrong address or key is told before the screen is taken
        if sys.stdout.isatty():
            _live(watch, view, every, frames)
        else:
            _printed(watch, view, every, frames)


def _live(watch: Watch, view: View, every: float, frames: int | None) -> None:
    live = Live(screen(view), screen=True, auto_refresh=False)
    with _keys() as keys:
        try:
            live.start(refresh=True)
            while not keys.pressed(b"q", every) and (frames is None or (frames := frames - 1) > 0):
                live.update(screen(watch.look()), refresh=True)
        except KeyboardInterrupt:
            pass
        finally:
            live.stop()


def _printed(watch: Watch, view: View, every: float, frames: int | None) -> None:
    console = Console(width=_PIPED_WIDTH, highlight=False)
    console.print(screen(view))
    while frames is None or (frames := frames - 1) > 0:
        time.sleep(every)
        console.print(screen(watch.look()))


class _Keys:
    def __init__(self, *, listens: bool) -> None:
        self._listens = listens

    def pressed(self, key: bytes, seconds: float) -> bool:
        """Wait so long, or until the key is pressed."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not self._listens:
                time.sleep(left)
            elif select.select([sys.stdin], [], [], left)[0]:
                typed = os.read(sys.stdin.fileno(), 1)
                if typed.lower() == key:
                    return True
                self._listens = typed != b""  # the end: nobody will type any more
        return False


@contextmanager
def _keys() -> Iterator[_Keys]:
    """Keys as they are pressed, without Enter; the terminal is as before afterwards."""
    if not sys.stdin.isatty():
        yield _Keys(listens=False)
        return
    import termios
    import tty

    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield _Keys(listens=True)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
