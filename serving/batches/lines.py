"""Lines: of an input file, checked; of an output file, written. JSON Lines, UTF-8 (azure-wire-format, 3.2)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterable, Collection
from dataclasses import dataclass
from typing import Any, Protocol

from serving.batches.batch import Problem
from serving.errors import InvalidRequest
from serving.protocol import bounds, usage
from serving.protocol.json_text import check_structure
from serving.tenants.callers import Caller

_LINES_AT_A_TIME = 5000
"""That are looked for before others have their turn: a file may be 200 MiB of blank ones."""
_BOM = b"\xef\xbb\xbf"
_ESCAPED = {b"\n": b"", b"\r": b""} | {end.encode(): json.dumps(end).strip('"').encode() for end in "\x85\u2028\u2029"}
"""What readers take for the end of a line, str.splitlines and httpx among them. In JSON text the first two stand
between values only, the others inside strings only."""
_ENDS_OF_LINES = re.compile(b"|".join(_ESCAPED))


@dataclass(frozen=True, slots=True)
class Line:
    """number: in the input file, from 1."""

    number: int
    custom_id: str
    url: str
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a line's request came to. body: a JSON object. retry_after: seconds, as its header said.
    is_final: not to be asked for again, as another header said.
    """

    status: int
    request_id: str
    body: bytes
    retry_after: float | None = None
    is_final: bool = False


class Lines(Protocol):
    """Runs the request of a line as its owner's, behind everybody who waits (gateway/lines.py)."""

    async def run(self, owner: Caller, endpoint: str, body: bytes) -> Answer: ...


class BadLine(Exception):
    """problem: what to tell; it quotes nothing of the line."""

    def __init__(self, code: str, message: str, number: int, param: str | None = None) -> None:
        super().__init__(code)
        self.problem = Problem(code, message, number, param)


async def split(chunks: AsyncIterable[bytes], *, longest: int) -> AsyncGenerator[tuple[int, bytes], None]:
    """(number, line) for each line that is not blank. Raises BadLine for one of more than `longest` bytes."""
    number, rest = 0, b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            number += 1
            if number % _LINES_AT_A_TIME == 0:
                await asyncio.sleep(0)
            _check_length(number, line, longest)
            if line.strip():
                yield number, line
        _check_length(number + 1, rest, longest)
    if rest.strip():
        yield number + 1, rest


def _check_length(number: int, line: bytes, longest: int) -> None:
    if len(line) > longest:
        raise BadLine("invalid_request", f"The line is longer than {longest} bytes.", number)


def read(number: int, text: bytes) -> Line:
    """Raises BadLine."""
    if number == 1 and text.startswith(_BOM):
        raise BadLine("invalid_json_line", "The file begins with a byte order mark; save it as plain UTF-8.", number)
    try:
        check_structure(text)
    except InvalidRequest as error:
        raise BadLine("invalid_request", error.message.replace("The request body", "The line"), number) from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise BadLine("invalid_json_line", "This line is not valid JSON.", number) from None
    if not isinstance(value, dict):
        raise BadLine("invalid_json_line", "This line is not a JSON object.", number)
    custom_id, body, url = value.get("custom_id"), value.get("body"), value.get("url")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= bounds.CUSTOM_ID:
        raise BadLine(
            "missing_required_parameter" if custom_id is None else "invalid_request",
            f"'custom_id' must be a text of 1 to {bounds.CUSTOM_ID} characters.",
            number,
            "custom_id",
        )
    if value.get("method") != "POST":
        raise BadLine("invalid_method", "'method' must be POST.", number, "method")
    if not isinstance(url, str):
        raise BadLine("invalid_url", "'url' must be the batch's endpoint.", number, "url")
    if not isinstance(body, dict):
        raise BadLine("invalid_request", "'body' must be a JSON object.", number, "body")
    return Line(number, custom_id, url, body)


class Inspection:
    """Looks at the lines of one file, in order. Collects what is wrong and gives up after `most_problems`."""

    def __init__(
        self, endpoint: str, owner: Caller, deployments: Collection[str], *, most: int, most_problems: int = 50
    ) -> None:
        self._endpoint = plain(endpoint)
        self._owner = owner
        self._deployments = deployments
        self._most = most
        self._most_problems = most_problems
        self._seen: set[bytes] = set()
        self.problems: list[Problem] = []
        self.model: str | None = None
        self.total = 0

    @property
    def done(self) -> bool:
        """Nothing more needs to be looked at."""
        return len(self.problems) >= self._most_problems or self.total > self._most

    def look(self, number: int, text: bytes) -> None:
        self.total += 1
        if self.total > self._most:
            self.found(Problem("too_many_tasks", f"A batch has at most {self._most} requests.", number))
            return
        try:
            self._check(read(number, text))
        except BadLine as bad:
            self.found(bad.problem)

    def found(self, problem: Problem) -> None:
        self.problems.append(problem)

    def finish(self) -> None:
        if not self.total and not self.problems:
            self.found(Problem("empty_file", "The file has no requests."))

    def _check(self, line: Line) -> None:
        number = line.number
        digest = hashlib.blake2b(line.custom_id.encode(errors="surrogatepass"), digest_size=16).digest()
        if digest in self._seen:
            raise BadLine("duplicate_custom_id", "Another line has this custom_id.", number, "custom_id")
        self._seen.add(digest)
        if plain(line.url) != self._endpoint:
            raise BadLine("url_mismatch", "'url' is not the endpoint that the batch was created for.", number, "url")
        if line.body.get("stream"):
            raise BadLine("invalid_request", "A batch's answers are not streamed.", number, "body.stream")
        model = line.body.get("model")
        base = model.partition(":")[0] if isinstance(model, str) else ""  # what follows is an adapter's name
        if base not in self._deployments or not self._owner.may_call(base):
            raise BadLine("model_not_found", "'model' is not a deployment that you may call.", number, "body.model")
        self.model = self.model or model
        if model != self.model:
            raise BadLine("model_mismatch", "All lines of a file must name the same model.", number, "body.model")


def plain(url: str) -> str:
    """/v1/chat/completions for any of the ways in which clients write it: Azure's is without /v1."""
    path = re.sub(r"^(/openai)?(/v1)?/", "/v1/", url)
    return re.sub(r"^/v1/deployments/[\w.%-]+/", "/v1/", path)


def body_of(line: Line) -> bytes:
    """The request of the line, as it is sent. Raises nothing: the line was read from JSON."""
    # As short as it was: escapes would double what is not English, and there is a limit on bodies.
    return json.dumps(line.body, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogatepass")


def usage_in(answer: Answer) -> tuple[int, int, int]:
    """Tokens: prompt, of these cached, completion; 0 for what the answer does not say in numbers that can be."""
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        return 0, 0, 0
    said = usage.usage_in(value.get("usage")) if isinstance(value, dict) else None
    return (said.prompt or 0, said.cached, said.completion or 0) if said else (0, 0, 0)


def answered(batch_id: str, line: Line, answer: Answer) -> bytes:
    """The line of the output file, or of the error file when the status says so."""
    try:
        json.loads(answer.body)
    except (ValueError, RecursionError):
        return not_answered(batch_id, line, "server_error", "The answer could not be read.")
    head = json.dumps({"id": _id(batch_id, line.number), "custom_id": line.custom_id})
    about = json.dumps({"status_code": answer.status, "request_id": answer.request_id})
    # The body is put in as it is: to read and write it again would change its numbers.
    return b'%s, "response": %s, "body": %s}, "error": null}\n' % (
        head[:-1].encode(),
        about[:-1].encode(),
        _ENDS_OF_LINES.sub(lambda end: _ESCAPED[end[0]], answer.body.strip()),
    )


def not_answered(batch_id: str, line: Line, code: str, message: str) -> bytes:
    """The line of the error file for one that was not run."""
    value = {
        "id": _id(batch_id, line.number),
        "custom_id": line.custom_id,
        "response": None,
        "error": {"code": code, "message": message},
    }
    return json.dumps(value).encode() + b"\n"


def _id(batch_id: str, number: int) -> str:
    """The same each time: a line that is run again after a crash is the same request."""
    return "batch_req_" + hashlib.sha256(f"{batch_id}:{number}".encode()).hexdigest()[:24]
