"""What a request says, as the echo engine understands it: its prompts as text, and what kind of answer it wants."""

from __future__ import annotations

import json
import re
from typing import Any

from serving.engines.echo.schemas import sample_of
from serving.engines.engine import EngineRequest

_CALLED_IN = 100_000
"""Characters in which a tool's name is looked for."""
_TOKEN = re.compile(r"\s*\S+(?:\s+$)?")


def tokens_of(text: str) -> list[str]:
    """Words, each with the white space before it; joined they are the text, unless that is white space only."""
    return [] if text.isspace() else _TOKEN.findall(text)  # of white space, each place would be tried to its end


def has_more_words(text: str, most: int) -> bool:
    """Of megabytes no more is read than tells."""
    return len(text.split(maxsplit=most)) > most


def prompts_of(request: EngineRequest) -> list[str]:
    """Each prompt or input as text. A token id is a word: its number."""
    if request.operation == "chat":
        return [_said(request.body["messages"][-1])]
    given = request.body["prompt" if request.operation == "completions" else "input"]
    if isinstance(given, str):
        return [given]
    if given and isinstance(given[0], int):
        return [_text(given)]
    return [_text(item) for item in given]


def _text(item: str | list[int]) -> str:
    return item if isinstance(item, str) else " ".join(str(token) for token in item)


def _said(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part if isinstance(part, str) else str(part.get("text", "")) for part in content)


def called_in(request: EngineRequest) -> tuple[str, str] | None:
    """Name and JSON arguments of the tool that the answer calls; None for none.

    One is called when tool_choice demands it, or when the last message, not being a tool's own, has a tool's name as a
    word. Arguments are made from the schema of its parameters.
    """
    tools = [tool.get("function") or {} for tool in request.body.get("tools") or []]
    choice = request.body.get("tool_choice") or "auto"
    if request.operation != "chat" or not tools or choice == "none":
        return None
    last = request.body["messages"][-1]
    words = set() if last.get("role") == "tool" else set(re.findall(r"[\w.-]+", _said(last)[:_CALLED_IN]))
    if isinstance(choice, dict):
        wanted = [tool for tool in tools if tool.get("name") == (choice.get("function") or {}).get("name")]
    else:
        wanted = [tool for tool in tools if tool.get("name") in words] or (tools if choice == "required" else [])
    if not wanted:
        return None
    sample = sample_of(wanted[0].get("parameters") or {"type": "object"})
    return str(wanted[0].get("name")), json.dumps(sample if isinstance(sample, dict) else {})


def answer_to(prompt: str, request: EngineRequest) -> str:
    """The text of an answer: the prompt's words, or JSON where the request asks for it."""
    wanted = request.body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return json.dumps(sample_of((wanted.get("json_schema") or {}).get("schema")))
    words = " ".join(prompt.split()) or "(nothing)"
    return json.dumps({"echo": words}) if wanted.get("type") == "json_object" else words
