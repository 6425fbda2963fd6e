"""POST /v1/responses: the fields that are known here, and the chat request that they mean."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError

from serving.errors import InvalidRequest
from serving.protocol import bounds, openai
from serving.protocol.body import Amount, Metadata, RequestBody, Text, Word, refusal_of
from serving.protocol.openai import (
    ChatRequest,
    Described,
    Logprobs,
    Model,
    Sampling,
    StreamOptions,
    Tier,
    ToolChoice,
    Tools,
    User,
)
from serving.protocol.responses.items import Items, messages_of, with_instructions

FORBIDDEN = (
    openai.FORBIDDEN
    | openai.REFUSED
    | {
        "conversation": "conversations are not kept here; use previous_response_id",
        "prompt": "prompt templates are not kept here; write them into instructions and input",
        "context_management": "nothing is compacted here",
    }
)
IGNORED = frozenset(
    [
        "access_programs",
        "background_options",
        "image",
        "max_tool_calls",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "stream_options",
    ]
)
"""OpenAI fields that change nothing here; SDKs and frameworks set them."""
LOGPROBS = "message.output_text.logprobs"
Include = Literal[
    "message.output_text.logprobs",
    "message.input_image.image_url",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]
_SAME = ("model", "stream", "service_tier", "user", *Sampling.model_fields)
"""Fields that are called alike in a chat."""
_NAMES = {
    "messages": "input",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "reasoning_effort": "reasoning.effort",
}


class TextConfig(RequestBody):
    model_config = ConfigDict(extra="ignore")

    format: Described | None = None


class Reasoning(RequestBody):
    """summary: accepted; what the engine gives of its reasoning is the reasoning itself."""

    model_config = ConfigDict(extra="ignore")

    effort: Word | None = None
    summary: Word | None = None


class ResponsesRequest(Sampling):
    """https://platform.openai.com/docs/api-reference/responses/create.

    truncation: `auto` is accepted and changes nothing, as the answer says: a prompt that is too long is refused.
    store: None is "as the tenant has it".
    """

    model_config = ConfigDict(extra="allow")

    model: Model | None = None
    input: (
        Annotated[str, Field(min_length=1, max_length=bounds.TEXT)]
        | Annotated[
            list[Annotated[dict[str, Any], Field(max_length=bounds.MESSAGE_FIELDS)]],
            Field(min_length=1, max_length=bounds.MESSAGES, fail_fast=True),
        ]
    )
    instructions: Text | None = None
    max_output_tokens: Amount | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    include: Annotated[list[Include], Field(max_length=bounds.INCLUDE)] | None = None
    top_logprobs: Logprobs | None = None
    metadata: Metadata | None = None
    truncation: Literal["auto", "disabled"] | None = None
    service_tier: Tier | None = None
    user: User | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = Field(None, max_length=200)
    stream: bool | None = False

    @property
    def logprobs(self) -> bool:
        return LOGPROBS in (self.include or ())

    def check(self) -> None:
        """Raises ForbiddenField, InvalidRequest."""
        openai.check_names(self.model_extra or {}, forbidden=FORBIDDEN, ignored=IGNORED)


def chat_of(request: ResponsesRequest, before: Items, own: Items) -> ChatRequest:
    """The chat request that this means. before: the items of the conversation that it goes on with; own: its input's.

    Raises InvalidRequest.
    """
    messages = messages_of(before) + messages_of(own, place="input")
    messages = with_instructions(request.instructions, messages)
    if not messages:
        raise InvalidRequest("'input' has no message.", param="input")
    if len(messages) > bounds.MESSAGES:
        raise InvalidRequest(f"The conversation has more than {bounds.MESSAGES} messages.", param="input")
    tools, choice = _tools_of(request)
    fields: dict[str, Any] = {
        **{name: getattr(request, name) for name in _SAME},
        "messages": messages,
        "max_completion_tokens": request.max_output_tokens,
        "tools": tools,
        "tool_choice": choice,
        "parallel_tool_calls": request.parallel_tool_calls if tools else None,
        "response_format": _format_of(request.text),
        "reasoning_effort": request.reasoning.effort if request.reasoning else None,
        "logprobs": True if request.logprobs else None,
        "top_logprobs": request.top_logprobs if request.logprobs else None,
        "stream_options": StreamOptions(include_usage=True) if request.stream else None,
    }
    try:
        return ChatRequest(**{name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        refusal = refusal_of(error)
        name_own_fields(refusal)
        raise refusal from None


def name_own_fields(error: InvalidRequest) -> None:
    """Make a refusal of the chat request one of the fields that the caller wrote."""
    for theirs, ours in _NAMES.items():
        if error.param == theirs:
            error.param = ours
            error.message = error.message.replace(theirs, ours)
    if error.param and error.param.startswith("messages["):  # whose numbers are not those of the input
        error.message = error.message.replace(error.param, "'input'")
        error.param = "input"


def _tools_of(request: ResponsesRequest) -> tuple[list[dict[str, Any]] | None, str | dict[str, Any] | None]:
    tools = [_tool_of(tool, f"tools[{position}]") for position, tool in enumerate(request.tools or ())]
    choice = request.tool_choice
    if not isinstance(choice, dict):
        return tools or None, choice if tools else None
    if choice.get("type") == "function" and isinstance(choice.get("name"), str):
        return tools or None, {"type": "function", "function": {"name": choice["name"]}}
    if choice.get("type") == "allowed_tools" and isinstance(choice.get("tools"), list):
        names = [one.get("name") for one in choice["tools"] if isinstance(one, dict)]
        allowed = [tool for tool in tools if tool["function"].get("name") in names]
        mode = "required" if choice.get("mode") == "required" else "auto"
        return allowed or None, mode if allowed else None
    raise InvalidRequest(
        "'tool_choice' must be none, auto, required, a function by its name, or allowed_tools of functions.",
        param="tool_choice",
    )


def _tool_of(tool: dict[str, Any], where: str) -> dict[str, Any]:
    if tool.get("type") != "function":
        raise InvalidRequest(
            f"{where}.type must be function: tools that run on the server, such as web or file search, code and "
            "computer use or MCP, do not exist here.",
            param=f"{where}.type",
        )
    if not isinstance(tool.get("name"), str):
        raise InvalidRequest(f"{where}.name must be a string.", param=f"{where}.name")
    names = ("name", "description", "parameters", "strict")
    return {"type": "function", "function": {name: tool[name] for name in names if tool.get(name) is not None}}


def _format_of(text: TextConfig | None) -> dict[str, Any] | None:
    wanted = (text.format if text else None) or {"type": "text"}
    kind = wanted.get("type")
    if kind == "text":
        return None
    if kind == "json_object":
        return {"type": "json_object"}
    if kind != "json_schema" or not isinstance(wanted.get("schema"), dict):
        raise InvalidRequest(
            "'text.format' must be of type text, json_object, or json_schema with a schema.", param="text.format"
        )
    names = ("name", "description", "schema", "strict")
    schema = {"name": "answer"} | {name: wanted[name] for name in names if wanted.get(name) is not None}
    return {"type": "json_schema", "json_schema": schema}
