"""The shapes of answers, as far as we promise them. What an engine adds passes through, so all of them are open."""

from __future__ import annotations

from typing import Any, get_args

from serving.batches.batch import Status
from serving.protocol.responses.answer import Status as ResponseStatus

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
MAYBE_TEXT: Schema = {"type": ["string", "null"]}
MAYBE_TIME: Schema = {"type": ["integer", "null"], "description": "Unix time."}


def _thing(kind: str, required: dict[str, Schema], more: dict[str, Schema] | None = None) -> Schema:
    """An object of OpenAI's, which says in `object` what it is."""
    properties = {"object": {"type": "string", "const": kind}} | required
    return {"type": "object", "required": [*properties], "properties": properties | (more or {})}


def _list_of(item: Schema) -> Schema:
    ids = {"first_id": MAYBE_TEXT, "last_id": MAYBE_TEXT, "has_more": {"type": "boolean"}}
    return _thing("list", {"data": {"type": "array", "items": item}} | ids)


_USAGE: Schema = {
    "type": "object",
    "required": ["prompt_tokens", "total_tokens"],
    "properties": {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT},
}
_CHOICES: Schema = {"type": "array", "items": {"type": "object", "required": ["index"]}}
_FILE = _thing(
    "file",
    {"id": TEXT, "bytes": COUNT, "created_at": COUNT, "filename": TEXT, "purpose": TEXT, "status": TEXT},
    {"expires_at": MAYBE_TIME},
)
_BATCH = _thing(
    "batch",
    {
        "id": TEXT,
        "endpoint": TEXT,
        "input_file_id": TEXT,
        "completion_window": TEXT,
        "status": {"type": "string", "enum": [*get_args(Status)]},
        "created_at": COUNT,
        "request_counts": {
            "type": "object",
            "required": ["total", "completed", "failed"],
            "properties": {"total": COUNT, "completed": COUNT, "failed": COUNT},
        },
    },
    {"output_file_id": MAYBE_TEXT, "error_file_id": MAYBE_TEXT, "errors": {"type": ["object", "null"]}},
)
_RESPONSE = _thing(
    "response",
    {
        "id": TEXT,
        "created_at": COUNT,
        "model": TEXT,
        "status": {"type": "string", "enum": [*get_args(ResponseStatus)]},
        "output": {"type": "array", "items": {"type": "object", "required": ["type"]}},
        "store": {"type": "boolean"},
    },
)


def _deleted(kind: str) -> Schema:
    return _thing(kind, {"id": TEXT, "deleted": {"type": "boolean", "const": True}})


ANSWERS: dict[tuple[str, str], Schema] = {
    ("post", "/chat/completions"): _thing(
        "chat.completion", {"id": TEXT, "created": COUNT, "model": TEXT, "choices": _CHOICES, "usage": _USAGE}
    ),
    ("post", "/completions"): _thing(
        "text_completion", {"id": TEXT, "created": COUNT, "model": TEXT, "choices": _CHOICES, "usage": _USAGE}
    ),
    ("post", "/embeddings"): _thing(
        "list",
        {
            "data": {
                "type": "array",
                "items": _thing("embedding", {"index": COUNT, "embedding": {"type": ["array", "string"]}}),
            },
            "model": TEXT,
            "usage": _USAGE,
        },
    ),
    ("post", "/responses"): _RESPONSE,
    ("get", "/responses/{response_id}"): _RESPONSE,
    ("delete", "/responses/{response_id}"): _deleted("response"),
    ("post", "/responses/{response_id}/cancel"): _RESPONSE,
    ("get", "/responses/{response_id}/input_items"): _list_of({"type": "object", "required": ["id", "type"]}),
    ("post", "/files"): _FILE,
    ("get", "/files"): _list_of(_FILE),
    ("get", "/files/{file_id}"): _FILE,
    ("delete", "/files/{file_id}"): _deleted("file"),
    ("post", "/batches"): _BATCH,
    ("get", "/batches"): _list_of(_BATCH),
    ("get", "/batches/{batch_id}"): _BATCH,
    ("post", "/batches/{batch_id}/cancel"): _BATCH,
}
"""By method and path, without what a dialect puts before it."""

EXAMPLES: dict[str, dict[str, Any]] = {
    "/chat/completions": {
        "model": "clinical-demo",
        "messages": [
            {"role": "system", "content": "Answer from the note only."},
            {"role": "user", "content": "Allergies: penicillin (rash). Any allergies?"},
        ],
        "max_completion_tokens": 64,
    },
    "/completions": {"model": "clinical-demo", "prompt": "Allergies: penicillin", "max_tokens": 16},
    "/embeddings": {"model": "clinical-embed", "input": ["Any allergies?"], "encoding_format": "float"},
    "/responses": {"model": "clinical-demo", "input": "Allergies: penicillin (rash). Any allergies?"},
    "/batches": {"input_file_id": "file-0123", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
}
"""Bodies to begin with."""

# Errors: OpenAI's four fields; where Azure's clients look for another shape, that one (azure-wire-format, 1.3 and 2).
_FOUR: Schema = {"message": TEXT, "type": MAYBE_TEXT, "param": MAYBE_TEXT, "code": MAYBE_TEXT}
_TOKEN_REFUSED: Schema = {
    "type": "object",
    "description": "A token of an identity provider is refused, as Azure says it.",
    "required": ["statusCode", "message"],
    "properties": {"statusCode": {"type": "integer"}, "message": TEXT},
}


def _enveloped(*required: str) -> Schema:
    error: Schema = {
        "type": "object",
        "required": [*required],
        "properties": _FOUR | {"innererror": {"type": "object"}},
    }
    return {"type": "object", "required": ["error"], "properties": {"error": error}}


REFUSALS: dict[str, Schema] = {
    "OpenAIRefusal": {"anyOf": [_enveloped("message", "type", "param", "code"), _TOKEN_REFUSED]},
    "AzureRefusal": {"anyOf": [_enveloped("message", "code"), _TOKEN_REFUSED]},
    "ExtraParameterRefusal": {
        "type": "object",
        "required": ["status", "code", "detail", "message"],
        "properties": {"status": {"const": 422}, "code": TEXT, "detail": {"type": "array"}, "message": TEXT},
    },
}
"""Components of the document."""
