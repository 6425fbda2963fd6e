"""The bounds of what a caller may send: one table, from which the checks, the maxima in /openapi.json and the page
docs/limits.md are made (`make readme` writes it). Nothing that arrives is without one: a test walks all routes.

What an operator may choose is in the settings (`server.max_body`, a deployment's `limits`, `batches`, `responses`); the
bounds here hold whatever is set there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bound:
    """One row. most: the largest value that is taken. unit: what is counted. status: what more is answered with."""

    section: str
    what: str
    most: int
    unit: str
    status: int = 400


_rows: list[Bound] = []


def _bound(section: str, what: str, most: int, unit: str, status: int = 400) -> int:
    _rows.append(Bound(section, what, most, unit, status))
    return most


_HEAD = "Requests"
HEADERS = _bound(_HEAD, "Headers", 128, "headers", 431)
HEADER_BYTES = _bound(_HEAD, "Headers, names and values together", 64 * 2**10, "bytes", 431)
PATH_BYTES = _bound(_HEAD, "The path", 2048, "bytes", 414)
QUERY_BYTES = _bound(_HEAD, "The query", 8 * 2**10, "bytes", 414)
QUERY_PARAMETERS = _bound(_HEAD, "Parameters of a query", 64, "parameters", 414)
PATH_PARAMETER = _bound(_HEAD, "An id or a name in a path", 256, "characters")
QUERY_VALUE = _bound(_HEAD, "A value in a query", 512, "characters")

_JSON = "JSON bodies and lines of batches"
DEPTH = _bound(_JSON, "Nesting", 64, "levels")
CONTAINERS = _bound(_JSON, "Objects and arrays", 65_536, "objects and arrays")
VALUES = _bound(_JSON, "Values, token ids among them", 524_288, "values")
STRINGS = _bound(_JSON, "Strings, names among them", 65_536, "strings")
FIELDS = _bound(_JSON, "Fields of the body itself", 128, "fields")
INTEGER = _bound(_JSON, "A whole number (and not below its negative)", 2**63 - 1, "")
TEXT = _bound(_JSON, "One text", 4 * 2**20, "characters")

BODIES = _bound(
    _HEAD, "Bodies above 64 KiB under way in one gateway, counted in full `server.max_body`", 32, "bodies", 429
)

_WORDS = "Chat, completions, embeddings, responses"
MODEL = _bound(_WORDS, "`model`", 256, "characters")
TOKENS = _bound(_WORDS, "`max_tokens`, `max_completion_tokens`, `max_output_tokens`, `min_tokens`", 2**31 - 1, "")
TOKEN_ID = _bound(_WORDS, "A token id", 2**31 - 1, "")
CHOICES = _bound(_WORDS, "`n`", 1024, "answers")
LOGPROBS = _bound(_WORDS, "`top_logprobs`, `logprobs`, `prompt_logprobs`", 1024, "")
MESSAGES = _bound(_WORDS, "`messages`; items of `input`", 4096, "messages")
PARTS = _bound(_WORDS, "Parts of all messages together", 8192, "parts")
MESSAGE_FIELDS = _bound(_WORDS, "Fields of a message or an item", 32, "fields")
TOOL_CALLS = _bound(_WORDS, "`tool_calls` of a message", 128, "calls")
TOOLS = _bound(_WORDS, "`tools`, `functions`", 512, "tools")
TOOL_FIELDS = _bound(_WORDS, "Fields of a tool, of `tool_choice`, of `response_format`", 16, "fields")
NAME = _bound(_WORDS, "A name or an id in a message or a tool", 256, "characters")
PROMPTS = _bound(_WORDS, "`prompt` or `input` as a list of texts or of lists of token ids", 2048, "prompts")
STOPS = _bound(_WORDS, "`stop`", 64, "texts")
STOP = _bound(_WORDS, "One of `stop`", 1024, "characters")
STOP_TOKENS = _bound(_WORDS, "`stop_token_ids`", 64, "token ids")
LOGIT_BIAS = _bound(_WORDS, "`logit_bias`", 1024, "tokens")
DIMENSIONS = _bound(_WORDS, "`dimensions`", 65_536, "")
USER = _bound(_WORDS, "`user`", 512, "characters")
WORD = _bound(_WORDS, "A word of the API, such as `reasoning_effort`", 64, "characters")
METADATA = _bound(_WORDS, "`metadata` of responses and batches", 16, "entries")
METADATA_NAME = _bound(_WORDS, "A name in `metadata`", 64, "characters")
METADATA_VALUE = _bound(_WORDS, "A value in `metadata`", 512, "characters")
INCLUDE = _bound(_WORDS, "`include`", 16, "entries")
REFERENCES = _bound(_WORDS, "Items of `input` that are references to kept ones", 512, "items")
REFERRED = _bound(_WORDS, "Responses that they refer to", 64, "responses")

_MEDIA = "Media in messages"
MEDIA = _bound(_MEDIA, "Images, sounds and videos of a request", 64, "media")
MEDIA_BYTES = _bound(_MEDIA, "One of them, decoded", 32 * 2**20, "bytes")
PIXELS = _bound(_MEDIA, "Pixels of an image, all frames together, as its header says", 64 * 10**6, "pixels")
SIDE = _bound(_MEDIA, "Width or height of an image", 16_384, "pixels")
FRAMES = _bound(_MEDIA, "Frames of an image that moves", 64, "frames")
SECONDS = _bound(_MEDIA, "A sound or a video, as far as its header says", 600, "seconds")

_FILES = "Files and batches"
PARTS_OF_UPLOAD = _bound(_FILES, "Parts of a multipart body", 16, "parts")
PART_HEADERS = _bound(_FILES, "Headers of a part", 8, "headers")
PART_HEADER_BYTES = _bound(_FILES, "Headers of a part, together", 4 * 2**10, "bytes")
UPLOAD_FIELD = _bound(_FILES, "A field beside the file", 4 * 2**10, "bytes")
UPLOAD_EXTRA = _bound(_FILES, "All of an upload but its file", 64 * 2**10, "bytes", 413)
FILE_NAME = _bound(_FILES, "A file's name (more is cut off)", 512, "characters", 200)
CUSTOM_ID = _bound(_FILES, "`custom_id` of a line", 512, "characters")
LINE = _bound(_FILES, "A line", 4 * 2**20, "bytes")
ID = _bound(_FILES, "An id, an endpoint or a window in a batch", 100, "characters")

_ADMIN = "Administration"
ADMIN_NAME = _bound(_ADMIN, "An id or a name", 256, "characters")
ADMIN_LIST = _bound(_ADMIN, "Roles, deployments or networks of a key", 100, "entries")
QUOTA = _bound(_ADMIN, "A limit of requests or tokens", 2**53, "")

TABLE = tuple(_rows)
