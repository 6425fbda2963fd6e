"""A chat's messages as an engine gets them: the documented roles, fields and parts, and nothing else.

What is unknown beside a text is left out, since SDKs replay what answers carried; a template would print it. What is
unknown beside media is refused: it tells the engine how to treat them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.errors import ForbiddenField, InvalidRequest
from serving.protocol import bounds

Messages = list[dict[str, Any]]
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
"""function: what answers a `function_call`, as it was before tools."""
PARTS = {
    "text": {"type", "text"},
    "refusal": {"type", "refusal"},
    "image_url": {"type", "image_url"},
    "input_audio": {"type", "input_audio"},
    "audio_url": {"type", "audio_url"},
    "video_url": {"type", "video_url"},
}
_TEXTS = ("name", "tool_call_id", "refusal", "reasoning", "reasoning_content")
_IDS = frozenset({"name", "tool_call_id"})


def check_messages(messages: Messages) -> Messages:
    """The messages, as they are forwarded. Refuses content that would make the engine fetch something or take raw
    tensors (SSRF: vLLM CVE-2026-24779).

    Raises ForbiddenField, InvalidRequest; they name the place and quote nothing.
    """
    checked: Messages = []
    called: dict[str, str] = {}
    parts = 0
    for position, message in enumerate(messages):
        message = _as_tools(message, position, called)
        if isinstance(content := message.get("content"), list):
            parts += len(content)
        if parts > bounds.PARTS:
            raise InvalidRequest(f"'messages' has more than {bounds.PARTS} parts.", param="messages")
        checked.append(_message(message, f"messages[{position}]"))
    return checked


def _as_tools(message: dict[str, Any], position: int, called: dict[str, str]) -> dict[str, Any]:
    """A message with a function's call or answer as one with a tool's. called: the ids of calls, by function."""
    where, call = f"messages[{position}]", message.get("function_call")
    if message.get("role") == "function":
        name = text_of(message.get("name"), f"{where}.name", most=bounds.NAME)
        if name not in called:
            raise InvalidRequest(f"{where} answers no function_call that came before it.", param=where)
        return {"role": "tool", "tool_call_id": called[name], "content": message.get("content")}
    if message.get("role") == "assistant" and call is not None and message.get("tool_calls") is None:
        given = call.get("name") if isinstance(call, dict) else None
        called[text_of(given, f"{where}.function_call.name", most=bounds.NAME)] = id = f"call_{position}"
        return {**message, "tool_calls": [{"id": id, "type": "function", "function": call}]}
    return message


def _message(message: Mapping[str, Any], where: str) -> dict[str, Any]:
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise InvalidRequest(f"{where}.role must be one of {', '.join(ROLES)}.", param=f"{where}.role")
    kept: dict[str, Any] = {"role": role}
    if "content" in message:
        kept["content"] = _content(message["content"], f"{where}.content")
    for name in _TEXTS:
        if (text := message.get(name)) is not None:
            kept[name] = text_of(text, f"{where}.{name}", most=bounds.NAME if name in _IDS else bounds.TEXT)
    if (calls := message.get("tool_calls")) is not None:
        kept["tool_calls"] = _calls(calls, f"{where}.tool_calls")
    return kept


def _content(content: object, where: str) -> Any:
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"{where} must be a string or a list of parts.", param=where)
    return [_part(part, f"{where}[{index}]") for index, part in enumerate(content)]


def _part(part: object, where: str) -> Any:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str) or kind not in PARTS:
        raise InvalidRequest(f"{where}.type must be one of {', '.join(PARTS)}.", param=f"{where}.type")
    if kind in ("text", "refusal"):
        return {"type": kind, kind: text_of(part.get(kind), f"{where}.{kind}", most=bounds.TEXT)}
    given = {name: value for name, value in part.items() if value is not None}
    if given.keys() - PARTS[kind]:
        raise ForbiddenField(f"{where} has a field that a part of type {kind} may not have.", param=where)
    if kind.endswith("_url"):
        link = part.get(kind)
        url = link.get("url") if isinstance(link, dict) else link
        if not isinstance(url, str) or not url.startswith("data:"):
            raise ForbiddenField(f"{where}: media must be sent inline as a data: URL; nothing is fetched.", param=where)
    return given


def _calls(calls: object, where: str) -> list[dict[str, Any]]:
    if not isinstance(calls, list) or len(calls) > bounds.TOOL_CALLS:
        raise InvalidRequest(f"{where} must be a list of at most {bounds.TOOL_CALLS} calls.", param=where)
    return [_call(call, f"{where}[{index}]") for index, call in enumerate(calls)]


def _call(call: object, where: str) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict) or call.get("type", "function") != "function":
        raise InvalidRequest(f"{where} must be a call of type function, with an object in function.", param=where)
    return {
        "id": text_of(call.get("id"), f"{where}.id", most=bounds.NAME),
        "type": "function",
        "function": {
            "name": text_of(function.get("name"), f"{where}.function.name", most=bounds.NAME),
            "arguments": text_of(function.get("arguments"), f"{where}.function.arguments", most=bounds.TEXT),
        },
    }


def text_of(text: object, where: str, *, most: int) -> str:
    if not isinstance(text, str):
        raise InvalidRequest(f"{where} must be a string.", param=where)
    if len(text) > most:
        raise InvalidRequest(f"{where} is longer than {most} characters.", param=where)
    return text
