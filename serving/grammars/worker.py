"""The process beside an engine's replica in which schemas are compiled, each in a fork of its own: `python -m
serving.grammars.worker`.

It loads xgrammar and the model's vocabulary once; a fork then costs 20 ms, may use so much time and memory and no more,
and can be killed without loading anything anew. Its parent writes to its standard input: first what it works with
(Setup, as JSON in a line), then a line for each grammar; it answers on standard output, a line each, in any order. It
ends when its parent does, however that ends. Nothing of a schema is written anywhere.
"""

from __future__ import annotations

import json
import math
import os
import resource
import selectors
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any

_LOOK = 1.0
"""Seconds between two looks at whether the parent is still there: a pipe may be held open by another process."""
_PARSE_SECONDS = 0.25
"""vLLM parses a schema in its server's event loop, where all others wait."""
_TOKENS, _SECONDS_A_TOKEN = 32, 0.02
"""Tokens for which an answer is tried, and what each may take to find: all others' next tokens wait for it."""
_NICE = 10
"""Answers that are being written go first."""
_HARMLESS = (b"falling back to anyOf semantics",)
"""xgrammar warns of what it takes no notice of, and prints the text. Not of a `oneOf`, which it reads as `anyOf`."""


@dataclass(frozen=True, slots=True)
class Setup:
    """vocabulary: xgrammar's TokenizerInfo as its JSON. any_whitespace: as the engine's. seconds: of CPU time, for each
    of `threads`. memory: bytes, beside what is loaded. wall: seconds, after which a fork is ended; if it has not had
    `seconds` of CPU time by then, the machine is busy, and nothing is known of the schema.
    """

    vocabulary: str
    any_whitespace: bool = True
    seconds: float = 2.0
    wall: float = 10.0
    memory: int = 2**30
    threads: int = 1


class _Refused(Exception):
    pass


class _Fork:
    def __init__(self, number: int, pid: int, reading: int, ends: float) -> None:
        self.number, self.pid, self.reading, self.ends = number, pid, reading, ends
        self.said = b""
        self.was_late = False

    def verdict(self, seconds: float) -> str:
        """Waits for its end. seconds: of CPU time that any schema may have had."""
        used = os.wait4(self.pid, 0)[2]
        if self.said:
            return self.said.decode()
        if self.was_late and used.ru_utime < seconds:
            return "busy"
        return "dear"  # killed by a limit of its own, or it ran out of memory


class _Server:
    def __init__(self, setup: Setup) -> None:
        import xgrammar

        self._xgrammar = xgrammar
        self._setup = setup
        self._vocabulary = xgrammar.TokenizerInfo.deserialize_json(setup.vocabulary)
        self._forks: dict[int, _Fork] = {}
        self._selector = selectors.DefaultSelector()
        self._rest = b""

    def run(self) -> None:
        parent = os.getppid()
        self._selector.register(0, selectors.EVENT_READ)
        try:
            _answer({"ready": True})
            while os.getppid() == parent:
                for key, _ in self._selector.select(self._patience()):
                    if key.fd != 0:
                        self._hear(self._forks[key.fd])
                    elif not self._take(os.read(0, 2**20)):
                        return
                for fork in [fork for fork in self._forks.values() if fork.ends <= time.monotonic()]:
                    fork.was_late = True
                    os.kill(fork.pid, signal.SIGKILL)
                    self._hear(fork, last=True)
        finally:
            for fork in self._forks.values():
                os.kill(fork.pid, signal.SIGKILL)

    def _patience(self) -> float:
        return max(0.0, min([_LOOK, *(fork.ends - time.monotonic() for fork in self._forks.values())]))

    def _take(self, data: bytes) -> bool:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._begin(json.loads(line))
        return bool(data)

    def _begin(self, asked: dict[str, Any]) -> None:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            _be_the_fork(writing, lambda: self._try(asked["kind"], asked["text"]), self._setup)
        os.close(writing)
        self._forks[reading] = _Fork(asked["id"], pid, reading, time.monotonic() + self._setup.wall)
        self._selector.register(reading, selectors.EVENT_READ)

    def _hear(self, fork: _Fork, *, last: bool = False) -> None:
        said = b"" if last else os.read(fork.reading, 4096)
        fork.said += said
        if said:
            return
        self._selector.unregister(fork.reading)
        os.close(fork.reading)
        del self._forks[fork.reading]
        _answer({"id": fork.number, "verdict": fork.verdict(self._setup.seconds)})

    def _try(self, kind: str, text: str) -> str:
        """What the engine will do with it, and a little more: a verdict. In the fork."""
        xgrammar, began = self._xgrammar, time.process_time()
        log = _no_output()
        compiler = xgrammar.GrammarCompiler(self._vocabulary, max_threads=self._setup.threads, cache_enabled=True)
        try:
            if kind == "structural_tag":
                xgrammar.Grammar.from_structural_tag(text)
            else:
                xgrammar.Grammar.from_json_schema(text, any_whitespace=self._setup.any_whitespace)
            if time.process_time() - began > _PARSE_SECONDS:
                return "dear"
            if kind == "structural_tag":
                grammar = compiler.compile_structural_tag(text)
            else:
                grammar = compiler.compile_json_schema(text, any_whitespace=self._setup.any_whitespace)
            return "ignored" if _warnings_in(log) else self._follow(grammar)
        except MemoryError:
            return "dear"
        except Exception as error:  # its text quotes the schema
            return "dear" if "bad_alloc" in str(error) else "invalid"

    def _follow(self, grammar: Any) -> str:
        """Write an answer for some tokens, always with the first that may come next."""
        matcher = self._xgrammar.GrammarMatcher(grammar)
        mask = self._xgrammar.allocate_token_bitmask(1, self._vocabulary.vocab_size)
        spent = 0.0
        for step in range(_TOKENS):
            began = time.process_time()
            restricted = matcher.fill_next_token_bitmask(mask)
            spent += time.process_time() - began
            if spent > (step + 1) * _SECONDS_A_TOKEN + _PARSE_SECONDS:
                return "dear"
            token = _first_in(mask[0].tolist()) if restricted else 0
            if token is None:
                return "empty"
            if not matcher.accept_token(token) or matcher.is_terminated():
                break
        return "good"


def _first_in(words: list[int]) -> int | None:
    """The first bit that is set, in words of 32."""
    for place, word in enumerate(words):
        if word:
            return 32 * place + ((word & -word).bit_length() - 1)
    return None


def _be_the_fork(writing: int, work: Any, setup: Setup) -> None:
    """Runs in the fork, and never returns."""
    try:
        os.close(0)
        os.nice(_NICE)
        cpu = math.ceil(setup.seconds * setup.threads)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open("/proc/self/statm") as sizes:  # noqa: PTH123  # nothing more than needed is imported
            loaded = int(sizes.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (loaded + setup.memory, loaded + setup.memory))
        os.write(writing, work().encode())
    finally:
        os._exit(0)


def _no_output() -> int:
    """From here on what is printed goes into memory, which ends with the process; its file."""
    file = os.memfd_create("xgrammar")
    os.dup2(file, 1)
    os.dup2(file, 2)
    return file


def _warnings_in(log: int) -> bool:
    text = os.pread(log, 2**16, 0)
    return any(line.strip() and not any(known in line for known in _HARMLESS) for line in text.split(b"\n"))


def _answer(message: dict[str, Any]) -> None:
    os.write(1, json.dumps(message).encode() + b"\n")


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # if the parent ignores it, nothing is left of forks to wait for
    _Server(Setup(**json.loads(sys.stdin.buffer.readline()))).run()


if __name__ == "__main__":
    main()
