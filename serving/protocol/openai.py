"""OpenAI's chat and text completion requests: which fields may reach an engine, and in which shape.

The list of fields is closed. A name that OpenAI or vLLM knows but that reaches past the caller's own request is refused
by name with the reason (FORBIDDEN); a name that nobody knows is refused with the nearest right one. Values are checked
here only where the gateway relies on them or where an engine has been crashed by them; the engine checks the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from serving.errors import ForbiddenField, InvalidRequest

FORBIDDEN = {
    "chat_template": "templates come with the model (a template is code: vLLM CVE-2026-115911)",
    "chat_template_kwargs": "only the names in ALLOWED_TEMPLATE_KWARGS may be set",
    "prompt_embeds": "embeddings as input can corrupt the engine's memory (CVE-2025-62164)",
    "cache_salt": "the server sets it, one for each tenant",
    "kv_transfer_params": "it addresses other engines",
    "mm_processor_kwargs": "it configures the engine",
    "media_io_kwargs": "it configures the engine",
    "priority": "the server sets it",
    "request_id": "the server sets it",
    "structured_outputs": "use response_format with a JSON schema (free grammars can hang an engine)",
    "guided_json": "use response_format",
    "guided_regex": "regular expressions can hang an engine (CVE-2026-55574); use response_format with a JSON schema",
    "guided_grammar": "free grammars can hang an engine; use response_format with a JSON schema",
    "guided_choice": "use response_format with an enum",
    "vllm_xargs": "it configures the engine",
    "logits_processors": "it runs code in the engine",
    "logprob_token_ids": "it multiplies the answer (PYSEC-2026-4350)",
}
ALLOWED_TEMPLATE_KWARGS = frozenset({"enable_thinking", "thinking", "reasoning_effort"})


def _no_embeddings(prompt: object) -> object:
    if isinstance(prompt, str) or (isinstance(prompt, list) and prompt and all(_is_prompt(item) for item in prompt)):
        return prompt
    raise ValueError("must be a string, a list of strings, a list of token ids, or a list of such lists")


def _is_prompt(item: object) -> bool:
    return (
        isinstance(item, str) or _is_token(item) or (isinstance(item, list) and all(_is_token(token) for token in item))
    )


def _is_token(item: object) -> bool:
    return isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**31


Whole = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
"""Engines keep them in 64 bits; JSON's have no end."""
Amount = Annotated[int, Field(ge=1, le=2**31 - 1)]

_MESSAGES: dict[str, Any] = {
    "items": {
        "type": "object",
        "required": ["role"],
        "properties": {
            "role": {"type": "string", "enum": ["system", "developer", "user", "assistant", "tool"]},
            "content": {"type": ["string", "array", "null"], "description": "A text, or parts."},
        },
    }
}
"""For the reference; `check_messages` checks."""


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class CompletionRequestBase(BaseModel):
    """Fields that chat and text completions share. `extra="allow"` keeps unknown names for `check_names` to explain."""

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True, allow_inf_nan=False)

    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Amount | None = None
    max_tokens: Amount | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: Whole | None = None
    stop: str | list[str] | None = None
    logit_bias: Annotated[dict[str, float] | None, Field(max_length=1024)] = None
    response_format: dict[str, Any] | None = None
    user: str | None = None
    service_tier: Literal["auto", "default", "flex", "priority", "scale"] | None = None
    # vLLM's sampling extensions, for those who pass extra_body.
    top_k: Whole | None = None
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    length_penalty: float | None = None
    min_tokens: int | None = Field(None, ge=0, le=2**31 - 1)
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[Whole] | None, Field(max_length=64)] = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    prompt_logprobs: int | None = Field(None, ge=0)
    return_token_ids: bool | None = None

    operation: ClassVar[Literal["chat", "completions"]]

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def prompts(self) -> int:
        """How many prompts the request holds; each is answered `n` times."""
        return 1


class ChatRequest(CompletionRequestBase):
    """POST /v1/chat/completions, https://platform.openai.com/docs/api-reference/chat/create."""

    operation = "chat"
    messages: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=4096, json_schema_extra=_MESSAGES)]
    max_completion_tokens: Amount | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0)
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    include_reasoning: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    echo: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None


class CompletionRequest(CompletionRequestBase):
    """POST /v1/completions, https://platform.openai.com/docs/api-reference/completions/create."""

    operation = "completions"
    prompt: Annotated[str | list[Any], BeforeValidator(_no_embeddings)]
    max_tokens: int | None = Field(None, ge=0, le=2**31 - 1)
    suffix: str | None = None
    echo: bool | None = None
    logprobs: int | None = Field(None, ge=0)
    add_special_tokens: bool | None = None

    @model_validator(mode="after")
    def _nothing_only_after_an_echo(self) -> Self:
        """Harnesses score a text with `echo`, `logprobs` and max_tokens 1, or 0."""
        if self.max_tokens == 0 and not self.echo:
            raise InvalidRequest("'max_tokens' may be 0 only with echo.", param="max_tokens")
        return self

    @property
    def prompts(self) -> int:
        is_batch = isinstance(self.prompt, list) and not _is_token(self.prompt[0])
        return len(self.prompt) if is_batch else 1


class EmbeddingsRequest(BaseModel):
    """POST /v1/embeddings, https://platform.openai.com/docs/api-reference/embeddings/create.

    encoding_format: obeyed to the letter; SDKs that ask for base64 decode it, and hand a base64 answer to an explicit
    float through to their user (azure-wire-format, rule 7).
    """

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True, allow_inf_nan=False)

    model: str | None = None
    input: Annotated[str | list[Any], BeforeValidator(_no_embeddings)]
    dimensions: int | None = Field(None, ge=1, le=65536)
    encoding_format: Literal["float", "base64"] = "float"
    user: str | None = None
    input_type: Literal["text", "query", "document"] | None = None
    stream: Literal[False] | None = None

    operation: ClassVar[Literal["embeddings"]] = "embeddings"
    wants_usage: ClassVar[bool] = True
    service_tier: ClassVar[None] = None

    @property
    def prompts(self) -> int:
        return len(self.input) if isinstance(self.input, list) and not _is_token(self.input[0]) else 1


InferenceRequest = ChatRequest | CompletionRequest | EmbeddingsRequest
"""What an engine can be asked for."""


# OpenAI fields that change nothing here. Accepted, because SDKs and frameworks set them; not forwarded.
IGNORED = frozenset(
    [
        "metadata",
        "store",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "verbosity",
        "modalities",
        "prediction",
        "functions",
        "function_call",
        "best_of",
    ]
)

_PART_KEYS = {
    "text": {"type", "text"},
    "refusal": {"type", "refusal"},
    "image_url": {"type", "image_url"},
    "input_audio": {"type", "input_audio"},
    "audio_url": {"type", "audio_url"},
    "video_url": {"type", "video_url"},
}


def check_names(
    extra: Collection[str], *, forbidden: Mapping[str, str] = FORBIDDEN, ignored: Collection[str] = IGNORED
) -> None:
    """Refuse the names that a request may not hold. Raises ForbiddenField, InvalidRequest."""
    for name in extra:
        if name in forbidden:
            raise ForbiddenField(f"The field '{name}' is not allowed: {forbidden[name]}.", param=name)
    if set(extra) - set(ignored):
        # The name is the caller's text, so it is not repeated; `param` would be the only other place for it.
        raise InvalidRequest("The request has a field that is unknown here. The fields are listed at /docs.")


def check_messages(messages: list[dict[str, Any]]) -> None:
    """Refuse content that would make the engine fetch something or take raw tensors (SSRF: vLLM CVE-2026-24779).

    Raises ForbiddenField, InvalidRequest.
    """
    for position, message in enumerate(messages):
        where = f"messages[{position}]"
        if not isinstance(message.get("role"), str):
            raise InvalidRequest(f"{where}.role must be a string.", param=f"{where}.role")
        content = message.get("content")
        if content is not None and not isinstance(content, str | list):
            raise InvalidRequest(f"{where}.content must be a string or a list of parts.", param=f"{where}.content")
        for index, part in enumerate(content if isinstance(content, list) else []):
            _check_part(part, f"{where}.content[{index}]")


def _check_part(part: object, where: str) -> None:
    if isinstance(part, str):
        return
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str) or kind not in _PART_KEYS:
        raise InvalidRequest(f"{where}.type must be one of {', '.join(_PART_KEYS)}.", param=f"{where}.type")
    if kind in ("text", "refusal") and not isinstance(part.get(kind), str):
        raise InvalidRequest(f"{where}.{kind} must be a string.", param=f"{where}.{kind}")
    if part.keys() - _PART_KEYS[kind]:
        raise ForbiddenField(f"{where} has a field that a part of type {kind} may not have.", param=where)
    if kind.endswith("_url"):
        link = part.get(kind)
        url = link.get("url") if isinstance(link, dict) else link
        if not isinstance(url, str) or not url.startswith("data:"):
            raise ForbiddenField(f"{where}: media must be sent inline as a data: URL; nothing is fetched.", param=where)


def schemas_of(request: CompletionRequestBase) -> list[tuple[str, Any]]:
    """Every JSON schema in the request with its place: each costs the engine a grammar."""
    found: list[tuple[str, Any]] = []
    if request.response_format is not None:
        kind = request.response_format.get("type")
        if kind not in ("text", "json_object", "json_schema"):
            raise InvalidRequest(
                "response_format.type must be text, json_object or json_schema.", param="response_format"
            )
        if kind == "json_schema" and not isinstance(request.response_format.get("json_schema"), dict):
            raise InvalidRequest("response_format.json_schema must be an object.", param="response_format")
        found.append(("response_format", request.response_format))
    choice = getattr(request, "tool_choice", None)
    if isinstance(choice, dict):
        _check_function(choice, "tool_choice", param="tool_choice")
    for index, tool in enumerate(getattr(request, "tools", None) or []):
        if tool.get("type") != "function":
            raise InvalidRequest(f"tools[{index}].type must be function.", param="tools")
        _check_function(tool, f"tools[{index}]", param="tools")
        found.append((f"tools[{index}]", tool))
    return found


def _check_function(named: dict[str, Any], where: str, *, param: str) -> None:
    function = named.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest(f"{where}.function must be an object with a name.", param=param)


def depth_of(value: object) -> int:
    """Nesting of a JSON value; a leaf has depth 0. Iterative: the input chooses the depth."""
    deepest, level = 0, [value]
    while level:
        nested = [v for v in level if isinstance(v, dict | list)]
        level = [child for v in nested for child in (v.values() if isinstance(v, dict) else v)]
        deepest += bool(nested)
    return deepest


class ModelCard(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "clinserve"
    parent: str | None = None
    description: str | None = None


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelCard]
