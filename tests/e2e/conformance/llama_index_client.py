"""LlamaIndex's `OpenAILike`, as its users write it. The argument: OpenAILike."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

from tests.e2e.conformance.scenarios import ASK, NOTE, SITE, TOOL, perform

QUESTION = ASK[0]["content"]


def client(model: str = SITE.chat, **more: Any) -> OpenAILike:
    at: Any = {"model": model, "api_base": f"{SITE.url}/v1", "api_key": SITE.keys["any"], "context_window": 2048}
    return OpenAILike(
        **at, is_chat_model=True, is_function_calling_model=True, temperature=0, max_tokens=100,
        additional_kwargs={"frequency_penalty": 1.5}, **more,
    )  # fmt: skip


def user(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.USER, content=text)


def turns() -> None:
    first = client().chat([ChatMessage(role=MessageRole.SYSTEM, content="Be brief."), user(QUESTION)])
    assert first.message.content
    assert client().chat([user(QUESTION), first.message, user("Which medications?")]).message.content


def stream() -> None:
    pieces = [chunk.delta or "" for chunk in client().stream_chat([user(QUESTION)])]
    assert "".join(pieces) == client().chat([user(QUESTION)]).message.content


def tools() -> None:
    def refer(urgent: bool) -> str:
        """Refer the patient to an allergist."""
        return f"Done, {urgent}."

    tool = FunctionTool.from_defaults(refer, name=TOOL)
    calling = client(SITE.faulty)  # the echo engine: a small model does not come to the end of a call
    answer = calling.chat_with_tools([tool], user_msg=f"{NOTE} Refer her.", tool_required=True)
    [call] = client().get_tool_calls_from_response(answer)
    assert call.tool_name == TOOL and isinstance(call.tool_kwargs["urgent"], bool)
    result = ChatMessage(role=MessageRole.TOOL, content="Done.", additional_kwargs={"tool_call_id": call.tool_id})
    assert client().chat([user(f"{NOTE} Refer her."), answer.message, result])


SCENARIOS: list[Callable[[], None]] = [turns, stream, tools]

if __name__ == "__main__":
    perform((f"llama-index {name} {scenario.__name__}", scenario) for name in sys.argv[1:] for scenario in SCENARIOS)
