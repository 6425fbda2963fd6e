"""What the key store last said, remembered for a while. Who believes it, and how long, is the keyring's."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

from serving.tenants.key_store import ApiKey, KeyDigest


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store said about a digest, and when it was asked."""

    key: ApiKey | None
    asked_at: float


class Answers:
    """The store's last answers, the least recently used dropped first.

    "Here it is" and "no such key" are bounded apart: a flood of invented, well-formed keys pushes out no real one.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._found: OrderedDict[KeyDigest, Answer] = OrderedDict()
        self._missing: OrderedDict[KeyDigest, Answer] = OrderedDict()
        self._lock = threading.Lock()  # revoke and adopt run in other threads than identify

    def get(self, digest: KeyDigest) -> Answer | None:
        with self._lock:
            for answers in (self._found, self._missing):
                if digest in answers:
                    answers.move_to_end(digest)
                    return answers[digest]
        return None

    def put(self, digest: KeyDigest, answer: Answer) -> None:
        into, out_of = (self._missing, self._found) if answer.key is None else (self._found, self._missing)
        with self._lock:
            out_of.pop(digest, None)
            into[digest] = answer
            into.move_to_end(digest)
            if len(into) > self._size:
                into.popitem(last=False)

    def forget(self, digest: KeyDigest) -> None:
        with self._lock:
            self._found.pop(digest, None)
            self._missing.pop(digest, None)
