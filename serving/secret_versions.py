"""A secret with its versions: the one that writes, and those before it, which still read.

A secret is replaced without an outage because its successor is known everywhere before anything is written with it.
Each version but the first says from when it writes, and until then it only reads. So it does not matter which process
hears of it first.

As text, a line for each version, in any order: `v2:2026-11-28T12:00:00Z:VALUE`. A line that does not begin so is the
first version, as secrets were before they had any.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

_LINE = re.compile(r"v([1-9][0-9]{0,3}):(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)?:(.+)")
PUBLIC = "public:"
"""Before the public key of a signing version whose private key was retired: what it signed is verified still."""
MOST_VERSIONS = 4
"""At a time: a digest is looked for under each."""
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class BadVersions(ValueError):
    """The text of a secret is not what it should be. Quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class SecretVersion:
    """number: from 1. text: the secret, or `public:HEX` of a signing key whose private part is gone. writes_from:
    aware; None for the first version, which always did.
    """

    number: int
    text: str = field(repr=False)
    writes_from: datetime | None = None

    @property
    def value(self) -> bytes:
        return self.text.encode(errors="surrogateescape")

    def line(self) -> str:
        since = self.writes_from.strftime(_TIME) if self.writes_from else ""
        return f"v{self.number}:{since}:{self.text}"


class VersionedSecret:
    """The live versions of a secret, for many threads. `take` gives a running process those that were added or retired.

    clock: decides which version writes.
    """

    def __init__(
        self, versions: Iterable[SecretVersion], clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Raises BadVersions."""
        self._versions = _ordered(versions)
        self._clock = clock
        self._lock = threading.Lock()

    @classmethod
    def of(cls, secret: VersionedSecret | bytes | str) -> VersionedSecret:
        """As it is, or a first version of this value."""
        if isinstance(secret, VersionedSecret):
            return secret
        return cls([SecretVersion(1, secret if isinstance(secret, str) else secret.decode(errors="surrogateescape"))])

    @classmethod
    def read(cls, text: str) -> VersionedSecret:
        """Raises BadVersions."""
        return cls(versions_in(text))

    @property
    def versions(self) -> tuple[SecretVersion, ...]:
        """The newest first."""
        return self._versions

    @property
    def writing(self) -> SecretVersion:
        """The newest whose time has come; else the oldest there is."""
        now = self._clock()
        due = (v for v in self._versions if v.writes_from is None or v.writes_from <= now)
        return next(due, self._versions[-1])

    def version(self, number: int) -> SecretVersion | None:
        return next((v for v in self._versions if v.number == number), None)

    def take(self, other: VersionedSecret) -> None:
        """From now on those of another."""
        with self._lock:
            self._versions = other.versions

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VersionedSecret) and self._versions == other.versions

    def __hash__(self) -> int:
        return hash(self._versions)

    def __repr__(self) -> str:
        return f"VersionedSecret({', '.join(f'v{v.number}' for v in self._versions)})"


def versions_in(text: str) -> list[SecretVersion]:
    """Raises BadVersions."""
    versions, lines = [], [line for line in text.splitlines() if line]
    if not any(_LINE.fullmatch(line) for line in lines):  # such as a secret of several lines, as it always was one
        lines = [text] if text else []
    for line in lines:
        match = _LINE.fullmatch(line)
        number, since, value = (int(match[1]), match[2], match[3]) if match else (1, None, line)
        try:
            at = datetime.strptime(since, _TIME).replace(tzinfo=UTC) if since else None
        except ValueError:
            raise BadVersions(f"version {number} begins at a time that there is not") from None
        versions.append(SecretVersion(number, value, at))
    return list(_ordered(versions))


def text_of(versions: Iterable[SecretVersion]) -> str:
    """What versions_in reads; one first version as secrets always were."""
    ordered = _ordered(versions)
    if len(ordered) == 1 and ordered[0].number == 1 and not _LINE.fullmatch(ordered[0].text):
        return ordered[0].text
    return "".join(f"{version.line()}\n" for version in ordered)


def _ordered(versions: Iterable[SecretVersion]) -> tuple[SecretVersion, ...]:
    ordered = tuple(sorted(versions, key=lambda version: -version.number))
    if not ordered or not all(version.text for version in ordered):
        raise BadVersions("there is no version, or one is empty")
    if len({version.number for version in ordered}) < len(ordered):
        raise BadVersions("two versions have the same number")
    if sum(not version.text.startswith(PUBLIC) for version in ordered) > MOST_VERSIONS:
        raise BadVersions(f"there are more than {MOST_VERSIONS} versions: retire old ones")
    times = [version.writes_from for version in ordered if version.writes_from]
    if times != sorted(times, reverse=True):
        raise BadVersions("a version writes before one that is older")
    return ordered
