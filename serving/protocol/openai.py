"""OpenAI's chat and text completion requests: which fields may reach an engine, and in which shape.

The list of fields is closed. A name that OpenAI or vLLM knows but that reaches past the caller's own request is refused
by name with the reason (FORBIDDEN); a name that nobody knows is refused with the nearest right one. Values are checked
here only where the gateway relies on them or where an engine has been crashed by them; the engine checks the rest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from serving.errors import ForbiddenField, InvalidRequest
from serving.grammars.schemas import Placed
from serving.protocol import bounds
from serving.protocol.body import Amount, RequestBody, Text, Whole, Word
from serving.protocol.messages import ROLES

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


_TokenId = Annotated[int, Field(strict=True, ge=0, le=bounds.TOKEN_ID)]
_TokenIds = Annotated[list[_TokenId], Field(max_length=bounds.VALUES, fail_fast=True)]
_AS_IDS: TypeAdapter[list[int]] = TypeAdapter(_TokenIds)
_AS_PROMPTS: TypeAdapter[list[str | list[int]]] = TypeAdapter(
    Annotated[list[Annotated[Text | _TokenIds, Field(union_mode="left_to_right")]], Field(fail_fast=True)]
)


def _no_embeddings(prompt: object) -> object:
    """The first item says what all are. They are looked at in the core: there may be half a million ids."""
    if isinstance(prompt, str):
        return prompt
    as_what: TypeAdapter[Any] = _AS_IDS if isinstance(prompt, list) and prompt and _is_token(prompt[0]) else _AS_PROMPTS
    try:
        if prompt != []:
            return as_what.validate_python(prompt, strict=True)
    except ValidationError:
        pass
    raise ValueError("must be a string, a list of strings, a list of token ids, or a list of such lists")


def _not_too_many(biases: object) -> object:
    """Before each of them is looked at: the core makes an error of each that is wrong."""
    if isinstance(biases, dict) and len(biases) > bounds.LOGIT_BIAS:
        raise ValueError(f"has more than {bounds.LOGIT_BIAS} entries")
    return biases


def _is_token(item: object) -> bool:
    return isinstance(item, int) and not isinstance(item, bool) and 0 <= item <= bounds.TOKEN_ID


_TEXT = {"type": "string", "maxLength": bounds.TEXT}
_ID = {"type": "integer", "minimum": 0, "maximum": bounds.TOKEN_ID}
_IDS = {"type": "array", "maxItems": bounds.VALUES, "items": _ID}
Prompt = Annotated[
    str | list[Any],
    BeforeValidator(_no_embeddings),
    Field(
        json_schema_extra={
            "anyOf": [
                _TEXT,
                {"type": "array", "minItems": 1, "maxItems": bounds.PROMPTS, "items": _TEXT},
                _IDS | {"minItems": 1},
                {"type": "array", "minItems": 1, "maxItems": bounds.PROMPTS, "items": _IDS},
            ]
        }
    ),
]
"""A text, texts, token ids, or lists of them."""


def _prompts_in(prompt: str | list[Any]) -> int:
    return len(prompt) if isinstance(prompt, list) and not _is_token(prompt[0]) else 1


_MESSAGES: dict[str, Any] = {
    "items": {
        "type": "object",
        "required": ["role"],
        "maxProperties": bounds.MESSAGE_FIELDS,
        "properties": {
            "role": {"type": "string", "enum": [*ROLES]},
            "content": {
                "type": ["string", "array", "null"],
                "maxLength": bounds.TEXT,
                "maxItems": bounds.PARTS,
                "description": "A text, or parts.",
            },
        },
    }
}
"""For the reference; `check_messages` checks."""


Described = Annotated[dict[str, Any], Field(max_length=bounds.TOOL_FIELDS)]
"""A tool, a choice of one, a format."""
Model = Annotated[str, Field(max_length=bounds.MODEL)]
User = Annotated[str, Field(max_length=bounds.USER)]
Tools = Annotated[list[Described], Field(max_length=bounds.TOOLS, fail_fast=True)]
ToolChoice = Literal["none", "auto", "required"] | Described
Tier = Literal["auto", "default", "flex", "priority", "scale"]
_Stop = Annotated[str, Field(max_length=bounds.STOP)]
Logprobs = Annotated[int, Field(ge=0, le=bounds.LOGPROBS)]
_Switches = Annotated[dict[str, bool | Word], Field(max_length=bounds.TOOL_FIELDS)]
_Bias = Annotated[
    dict[str, Annotated[float, Field(strict=True, ge=-100, le=100)]],
    Field(max_length=bounds.LOGIT_BIAS),
    BeforeValidator(_not_too_many),
]


class StreamOptions(RequestBody):
    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class Sampling(RequestBody):
    """What chat, completions and responses share: how tokens are chosen."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    seed: Whole | None = None
    stop: _Stop | Annotated[list[_Stop], Field(max_length=bounds.STOPS, fail_fast=True)] | None = None
    logit_bias: _Bias | None = None
    # vLLM's sampling extensions, for those who pass extra_body.
    top_k: int | None = Field(None, ge=-1, le=bounds.TOKEN_ID)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0, le=10)
    length_penalty: float | None = Field(None, ge=-10, le=10)
    min_tokens: int | None = Field(None, ge=0, le=bounds.TOKENS)
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[_TokenId], Field(max_length=bounds.STOP_TOKENS, fail_fast=True)] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None


class CompletionRequestBase(Sampling):
    """Fields that chat and text completions share. `extra="allow"` keeps unknown names for `check_names` to explain."""

    model_config = ConfigDict(extra="allow")

    model: Model | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=bounds.CHOICES)] | None = None
    max_tokens: Amount | None = None
    response_format: Described | None = None
    user: User | None = None
    service_tier: Tier | None = None
    best_of: int | None = Field(None, ge=0, le=bounds.CHOICES)
    prompt_logprobs: Logprobs | None = None
    return_token_ids: bool | None = None

    operation: ClassVar[Literal["chat", "completions"]]

    @model_validator(mode="after")
    def _best_of_one(self) -> Self:
        if self.best_of is not None and self.best_of > 1:
            raise ForbiddenField("'best_of' above 1 is not supported: ask for 'n' answers and choose.", param="best_of")
        return self

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
    messages: Annotated[
        list[Annotated[dict[str, Any], Field(max_length=bounds.MESSAGE_FIELDS)]],
        Field(min_length=1, max_length=bounds.MESSAGES, fail_fast=True, json_schema_extra=_MESSAGES),
    ]
    max_completion_tokens: Amount | None = None
    logprobs: bool | None = None
    top_logprobs: Logprobs | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    modalities: Annotated[list[Word], Field(max_length=bounds.TOOL_FIELDS)] | None = None
    reasoning_effort: Word | None = None
    include_reasoning: bool | None = None
    chat_template_kwargs: _Switches | None = None
    echo: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None

    # As they were before tools; the answer is put back (gateway/functions.py).
    functions: Tools | None = None
    function_call: Literal["none", "auto"] | Described | None = None

    @model_validator(mode="after")
    def _functions_are_tools(self) -> Self:
        if self.function_call is not None and self.functions is None:
            raise InvalidRequest("'function_call' needs 'functions'.", param="function_call")
        if self.functions is None:
            return self
        if self.tools is not None or self.tool_choice is not None:
            raise InvalidRequest("Send 'tools' or 'functions', not both.", param="functions")
        if not all(isinstance(function.get("name"), str) for function in self.functions):
            raise InvalidRequest("Each of 'functions' must have a name.", param="functions")
        choice = self.function_call
        if isinstance(choice, dict) and not isinstance(choice.get("name"), str):
            raise InvalidRequest("'function_call' must be none, auto, or an object with a name.", param="function_call")
        if self.functions:
            self.tools = [{"type": "function", "function": function} for function in self.functions]
            self.parallel_tool_calls = False
            self.tool_choice = {"type": "function", "function": choice} if isinstance(choice, dict) else choice
        return self

    @model_validator(mode="after")
    def _answers_are_text(self) -> Self:
        if set(self.modalities or ()) - {"text"}:
            raise ForbiddenField("'modalities' may only be text: models here answer in text.", param="modalities")
        return self


class CompletionRequest(CompletionRequestBase):
    """POST /v1/completions, https://platform.openai.com/docs/api-reference/completions/create."""

    operation = "completions"
    prompt: Prompt
    max_tokens: int | None = Field(None, ge=0, le=bounds.TOKENS)
    suffix: Text | None = None
    echo: bool | None = None
    logprobs: Logprobs | None = None
    add_special_tokens: bool | None = None

    @model_validator(mode="after")
    def _nothing_only_after_an_echo(self) -> Self:
        """Harnesses score a text with `echo`, `logprobs` and max_tokens 1, or 0."""
        if self.max_tokens == 0 and not self.echo:
            raise InvalidRequest("'max_tokens' may be 0 only with echo.", param="max_tokens")
        return self

    @property
    def prompts(self) -> int:
        return _prompts_in(self.prompt)


class EmbeddingsRequest(RequestBody):
    """POST /v1/embeddings, https://platform.openai.com/docs/api-reference/embeddings/create.

    encoding_format: obeyed to the letter; SDKs that ask for base64 decode it, and hand a base64 answer to an explicit
    float through to their user (azure-wire-format, rule 7).
    """

    model_config = ConfigDict(extra="allow")

    model: Model | None = None
    input: Prompt
    dimensions: int | None = Field(None, ge=1, le=bounds.DIMENSIONS)
    encoding_format: Literal["float", "base64"] = "float"
    user: User | None = None
    input_type: Literal["text", "query", "document"] | None = None
    stream: Literal[False] | None = None

    operation: ClassVar[Literal["embeddings"]] = "embeddings"
    wants_usage: ClassVar[bool] = True
    service_tier: ClassVar[None] = None

    @property
    def prompts(self) -> int:
        return _prompts_in(self.input)


InferenceRequest = ChatRequest | CompletionRequest | EmbeddingsRequest
"""What an engine can be asked for."""
KNOWN = (
    frozenset(ChatRequest.model_fields)
    | frozenset(CompletionRequest.model_fields)
    | EmbeddingsRequest.model_fields.keys()
)
"""Names of ours, which an error may repeat."""


# OpenAI fields that change nothing in an answer. Accepted, because SDKs and frameworks set them; not forwarded.
IGNORED = frozenset(
    [
        "metadata", "store", "safety_identifier", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
        "verbosity", "prediction",
    ]
)  # fmt: skip
REFUSED = {
    "audio": "models here answer in text",
    "web_search_options": "nothing is searched here; send what was found in messages",
    "moderation": "content filters are the deployment's",
}
"""OpenAI fields without which the answer would be another one than was asked for."""


def check_names(
    extra: Collection[str], *, forbidden: Mapping[str, str] = FORBIDDEN | REFUSED, ignored: Collection[str] = IGNORED
) -> None:
    """Refuse the names that a request may not hold. Raises ForbiddenField, InvalidRequest."""
    for name in extra:
        if name in forbidden:
            raise ForbiddenField(f"The field '{name}' is not allowed: {forbidden[name]}.", param=name)
    unknown = set(extra) - set(ignored)
    for name in sorted(unknown & KNOWN):
        raise InvalidRequest(f"The field '{name}' is not known in this operation; /docs lists its fields.", param=name)
    if unknown:
        # The name is the caller's text, so it is not repeated; `param` would be the only other place for it.
        raise InvalidRequest("The request has a field that is unknown here. The fields are listed at /docs.")


def schemas_of(request: CompletionRequestBase) -> list[tuple[Placed, Any]]:
    """Every JSON schema in the request, and the value of the field that holds it: each costs the engine a grammar."""
    found: list[tuple[Placed, Any]] = []
    if request.response_format is not None:
        kind = request.response_format.get("type")
        if kind not in ("text", "json_object", "json_schema"):
            raise InvalidRequest(
                "response_format.type must be text, json_object or json_schema.", param="response_format"
            )
        described = request.response_format.get("json_schema")
        if kind == "json_schema" and not isinstance(described, dict):
            raise InvalidRequest("response_format.json_schema must be an object.", param="response_format")
        schema = described.get("schema") if kind == "json_schema" and isinstance(described, dict) else None
        if schema is not None and not isinstance(schema, dict):
            raise InvalidRequest("response_format.json_schema.schema must be an object.", param="response_format")
        placed = Placed("response_format", "response_format", schema or {}, enforced=True)
        found.append((placed, request.response_format))
    choice, tools = getattr(request, "tool_choice", None), getattr(request, "tools", None) or []
    if isinstance(choice, dict):
        wanted = _check_function(choice, "tool_choice", param="tool_choice")["name"]
        named = [tool["function"] for tool in tools if isinstance(tool.get("function"), dict)]
        if all(function.get("name") != wanted for function in named):  # vLLM would quote the name
            raise InvalidRequest("tool_choice names a function that is not among the tools.", param="tool_choice")
    for index, tool in enumerate(tools):
        where = f"tools[{index}]"
        if tool.get("type") != "function":
            raise InvalidRequest(f"{where}.type must be function.", param="tools")
        function = _check_function(tool, where, param="tools")
        parameters = function.get("parameters")
        if parameters is not None and not isinstance(parameters, dict):
            raise InvalidRequest(f"{where}.function.parameters must be an object.", param="tools")
        # With `auto`, only what says strict is made a grammar.
        enforced = bool(function.get("strict")) or choice == "required" or isinstance(choice, dict)
        found.append((Placed(where, "tools", parameters or {}, enforced), tool))
    return found


def _check_function(named: dict[str, Any], where: str, *, param: str) -> dict[str, Any]:
    function = named.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest(f"{where}.function must be an object with a name.", param=param)
    return function


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
