"""What an attack is: a name, what it does, and what its author may get for it."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from loadtests.hostile.wire import Mallory

Section = Literal[
    "without a key", "connections", "other doors", "bodies", "values", "transfers", "with a key", "uploads", "grammars"
]
Run = Callable[[Mallory], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Attack:
    """gets: statuses, or words of wire.py, that are right answers; anything else is a fault of the product.

    same_address: as the bystander, as behind one NAT. leaves_files: whole ones, which are its author's to delete.
    short: part of the short form, which the tests run.
    """

    name: str
    section: Section
    what: str
    run: Run
    gets: frozenset[str]
    seconds: float = 4.0
    same_address: bool = False
    leaves_files: bool = False
    short: bool = False


@dataclass(frozen=True)
class Kind:
    """Makes the attacks of a section, with what most of them get."""

    section: Section
    gets: frozenset[str]
    seconds: float = 4.0

    def __call__(
        self,
        name: str,
        what: str,
        run: Run,
        gets: frozenset[str] | None = None,
        *,
        short: bool = False,
        same_address: bool = False,
        leaves_files: bool = False,
    ) -> Attack:
        right = self.gets if gets is None else gets
        return Attack(name, self.section, what, run, right, self.seconds, same_address, leaves_files, short)


def asking(make: Callable[[Mallory, int], Any], *, rate: float = 4.0, at_most: int = 8, patience: float = 30.0) -> Run:
    """Send what `make` gives for the number, so often a second."""

    async def run(mallory: Mallory) -> None:
        await mallory.steadily(
            lambda number: mallory.ask(make(mallory, number), patience=patience), rate=rate, at_most=at_most
        )

    return run


def gets(*outcomes: str | int) -> frozenset[str]:
    return frozenset(str(outcome) for outcome in outcomes)
