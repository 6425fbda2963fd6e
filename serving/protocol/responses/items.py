"""Items, which a response is made from and made of, and the chat messages that they mean.

A message is one; a function_call joins the assistant's message before it, as the model gave both in one turn; a
function_call_output is the tool's message. Reasoning is left out: models get that of their current turn only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.errors import ForbiddenField, InvalidRequest

Items = list[dict[str, Any]]
Messages = list[dict[str, Any]]
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
"""developer: most chat templates know only `system`."""
_TEXTS = {"input_text": "text", "output_text": "text", "text": "text", "refusal": "refusal"}


def items_of(given: str | Items) -> Items:
    """A request's `input` as items."""
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    return given


def kind_of(item: dict[str, Any]) -> object:
    """Messages may leave it out, and so may references."""
    if "type" in item and item["type"] is not None:
        return item["type"]
    return "message" if "role" in item else "item_reference" if item.keys() == {"id"} else None


def messages_of(items: Sequence[dict[str, Any]], place: str = "items") -> Messages:
    """Raises InvalidRequest, ForbiddenField; they name the item's place and quote nothing of it."""
    messages: Messages = []
    for position, item in enumerate(items):
        where = f"{place}[{position}]"
        match kind_of(item):
            case "message":
                messages.append(_message_of(item, where))
            case "function_call":
                _turn_in(messages).setdefault("tool_calls", []).append(_call_of(item, where))
            case "function_call_output":
                content = _content_of(item.get("output"), f"{where}.output", as_text=False)
                call_id = _text_in(item, "call_id", where)
                messages.append({"role": "tool", "tool_call_id": call_id, "content": content})
            case "reasoning":
                continue
            case _:
                raise InvalidRequest(
                    f"{where}.type must be message, function_call, function_call_output, reasoning or item_reference.",
                    param=f"{where}.type",
                )
    return messages


def with_instructions(instructions: str | None, messages: Messages) -> Messages:
    """The system messages that lead, as one: many chat templates take one only, as the first."""
    leading = 0
    while leading < len(messages) and messages[leading]["role"] == "system":
        leading += 1
    texts = [instructions or "", *(message["content"] for message in messages[:leading])]
    text = "\n\n".join(filter(None, texts))
    return [{"role": "system", "content": text}, *messages[leading:]] if text else messages[leading:]


def _message_of(item: dict[str, Any], where: str) -> dict[str, Any]:
    role = item.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidRequest(f"{where}.role must be one of {', '.join(_ROLES)}.", param=f"{where}.role")
    role = _ROLES[role]
    return {"role": role, "content": _content_of(item.get("content"), f"{where}.content", as_text=role != "user")}


def _turn_in(messages: Messages) -> dict[str, Any]:
    """The assistant's message that a call belongs to."""
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": None})
    return messages[-1]


def _call_of(item: dict[str, Any], where: str) -> dict[str, Any]:
    function = {name: _text_in(item, name, where) for name in ("name", "arguments")}
    return {"id": _text_in(item, "call_id", where), "type": "function", "function": function}


def _content_of(content: object, where: str, *, as_text: bool) -> Any:
    """as_text: of those who have no images, so that it is a text also when it comes in parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise InvalidRequest(f"{where} must be a string or a list of parts.", param=where)
    parts = [_part_of(part, f"{where}[{position}]") for position, part in enumerate(content)]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    if len(texts) == len(parts) and (as_text or len(parts) < 2):
        return "".join(texts)
    if as_text:
        raise InvalidRequest(f"{where}: images can only be in a user's message or a function's output.", param=where)
    return parts


def _part_of(part: object, where: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or not isinstance(kind, str) or kind not in (*_TEXTS, "input_image"):
        raise InvalidRequest(
            f"{where}.type must be input_text, input_image, output_text or refusal.", param=f"{where}.type"
        )
    if kind != "input_image":
        return {"type": "text", "text": _text_in(part, _TEXTS[kind], where)}
    url = part.get("image_url")
    if not isinstance(url, str) or not url.startswith("data:"):
        raise ForbiddenField(
            f"{where}: an image must be sent inline, with a data: URL in image_url; nothing is fetched.", param=where
        )
    detail = part.get("detail")
    return {"type": "image_url", "image_url": {"url": url} | ({"detail": detail} if isinstance(detail, str) else {})}


def _text_in(item: dict[str, Any], name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}.{name} must be a string.", param=f"{where}.{name}")
    return value
