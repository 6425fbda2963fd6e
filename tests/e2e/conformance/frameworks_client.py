"""Frameworks on top of `openai`, as their users write them: OpenAI's Agents SDK, Pydantic AI, Haystack, LiteLLM.

The arguments: which of CLIENTS. Each has a plain answer, a second turn, a stream, a loop with a tool, and an answer in
a schema, as far as the framework has them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any, Literal

from pydantic import BaseModel

from tests.e2e.conformance.scenarios import ASK, NOTE, SITE, TOOL, perform

QUESTION, AGAIN = ASK[0]["content"], "Which medications?"
V1, KEY = f"{SITE.url}/v1", SITE.keys["any"]
SETTINGS: dict[str, Any] = {"temperature": 0.0, "max_tokens": 100, "frequency_penalty": 1.5}
CALLED: list[bool] = []
LOOP = asyncio.new_event_loop()
"""One for all: their HTTP clients belong to the loop that first used them."""


class Allergy(BaseModel):
    """What the patient is allergic to."""

    allergic: bool
    severity: Literal["mild", "severe"]


def refer_to_allergist(urgent: bool) -> str:
    """Refer the patient to an allergist.

    Args:
        urgent: Whether this week.
    """
    CALLED.append(urgent)
    return "Done."


def called(count: int = 1) -> None:
    assert len(CALLED) >= count and all(isinstance(urgent, bool) for urgent in CALLED), CALLED
    CALLED.clear()


# OpenAI's Agents SDK: it replays its own items in the second turn, on Chat Completions and on Responses.


def agents(kind: str) -> dict[str, Callable[[], None]]:
    import agents as sdk
    from openai import AsyncOpenAI

    sdk.set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=V1, api_key=KEY)
    models = {"chat": sdk.OpenAIChatCompletionsModel, "responses": sdk.OpenAIResponsesModel}
    model = models[kind](SITE.chat, openai_client=client)
    settings = sdk.ModelSettings(**SETTINGS)

    def agent(**more: Any) -> Any:
        return sdk.Agent(name="ward", model=model, **({"model_settings": settings} | more))

    def run(who: Any, said: Any, **more: Any) -> Any:
        return LOOP.run_until_complete(sdk.Runner.run(who, said, **more))

    def turns() -> None:
        first = run(agent(instructions="Be brief."), QUESTION)
        assert first.final_output
        again = [*first.to_input_list(), {"role": "user", "content": AGAIN}]
        assert run(agent(), again).final_output

    def stream() -> None:
        async def read() -> tuple[str, Any]:
            running = sdk.Runner.run_streamed(agent(), QUESTION)
            events = [event async for event in running.stream_events()]
            pieces = [
                e.data.delta for e in events if getattr(getattr(e, "data", None), "type", "").endswith("text.delta")
            ]
            return "".join(pieces), running.final_output

        said, final = LOOP.run_until_complete(read())
        assert said == final != ""

    def tools() -> None:
        tool = sdk.function_tool(refer_to_allergist)
        wanted = sdk.ModelSettings(**SETTINGS, tool_choice="required", extra_body={"frequency_penalty": 1.5})
        who = agent(tools=[tool], model_settings=wanted)  # it lets go of `required` after the first call by itself
        with contextlib.suppress(sdk.MaxTurnsExceeded):  # a small model likes to call
            run(who, f"{NOTE} Refer her.", max_turns=2)
        called()

    def schema() -> None:
        assert isinstance(run(agent(output_type=Allergy), QUESTION).final_output, Allergy)

    return {"turns": turns, "stream": stream, "tools": tools, "schema": schema}


def pydantic_ai(kind: str) -> dict[str, Callable[[], None]]:
    from openai import AsyncAzureOpenAI
    from pydantic_ai import Agent, NativeOutput, ToolOutput
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    azure = AsyncAzureOpenAI(azure_endpoint=SITE.url, api_key=KEY, api_version="2024-10-21")
    plain = OpenAIProvider(base_url=V1, api_key=KEY)
    model: Any = {
        "chat": lambda: OpenAIChatModel(SITE.chat, provider=plain),
        "responses": lambda: OpenAIResponsesModel(SITE.chat, provider=plain),
        "azure": lambda: OpenAIChatModel(SITE.chat, provider=OpenAIProvider(openai_client=azure)),
    }[kind]()
    settings: Any = {"temperature": 0.0, "max_tokens": 100}
    if kind != "responses":
        settings["frequency_penalty"] = 1.5

    def turns() -> None:
        agent = Agent(model, instructions="Be brief.", model_settings=settings)
        first = LOOP.run_until_complete(agent.run(QUESTION))
        assert first.output and first.usage.output_tokens > 0
        again = LOOP.run_until_complete(agent.run(AGAIN, message_history=first.all_messages()))
        assert again.output

    def stream() -> None:
        async def read() -> list[str]:
            async with Agent(model, model_settings=settings).run_stream(QUESTION) as running:
                return [piece async for piece in running.stream_text(delta=True)]

        assert "".join(LOOP.run_until_complete(read()))

    def tools() -> None:
        """Its own way to an answer in a schema: a tool that must be called."""
        agent = Agent(model, output_type=ToolOutput(Allergy), model_settings=settings)
        assert isinstance(LOOP.run_until_complete(agent.run(QUESTION)).output, Allergy)

    def schema() -> None:
        agent = Agent(model, output_type=NativeOutput(Allergy), model_settings=settings)
        assert isinstance(LOOP.run_until_complete(agent.run(QUESTION)).output, Allergy)

    return {"turns": turns, "stream": stream, "tools": tools, "schema": schema}


def haystack(kind: str) -> dict[str, Callable[[], None]]:
    from haystack.components.generators.chat import AzureOpenAIChatGenerator, OpenAIChatGenerator
    from haystack.dataclasses import ChatMessage
    from haystack.tools import create_tool_from_function
    from haystack.utils import Secret

    def generator(**more: Any) -> Any:
        more = {"generation_kwargs": SETTINGS} | more
        if kind == "azure":
            at = {"azure_endpoint": SITE.url, "azure_deployment": SITE.chat, "api_version": "2024-10-21"}
            return AzureOpenAIChatGenerator(**at, api_key=Secret.from_token(KEY), **more)
        return OpenAIChatGenerator(model=SITE.chat, api_base_url=V1, api_key=Secret.from_token(KEY), **more)

    def turns() -> None:
        said = [ChatMessage.from_system("Be brief."), ChatMessage.from_user(QUESTION)]
        [first] = generator().run(said)["replies"]
        assert first.text and first.meta["usage"]["completion_tokens"] > 0
        assert generator().run([*said, first, ChatMessage.from_user(AGAIN)])["replies"][0].text

    def stream() -> None:
        pieces: list[str] = []
        [answer] = generator(streaming_callback=lambda chunk: pieces.append(chunk.content)).run(
            [ChatMessage.from_user(QUESTION)]
        )["replies"]
        assert "".join(pieces) == answer.text != ""

    def tools() -> None:
        tool = create_tool_from_function(refer_to_allergist)
        said = [ChatMessage.from_user(f"{NOTE} Refer her.")]
        asked = generator(generation_kwargs=SETTINGS | {"tool_choice": "required"}, tools=[tool])
        [answer] = asked.run(said)["replies"]
        [call] = answer.tool_calls
        result = ChatMessage.from_tool(tool.invoke(**call.arguments), origin=call)
        called()
        assert generator(tools=[tool]).run([*said, answer, result])["replies"]

    return {"turns": turns, "stream": stream, "tools": tools}


def litellm(kind: str) -> dict[str, Callable[[], None]]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks a server in the internet for prices
    import litellm as sdk

    sdk.suppress_debug_info = True  # it would print among the reports
    at: dict[str, Any] = {
        "openai": {"model": f"openai/{SITE.chat}", "api_base": V1},
        "azure": {"model": f"azure/{SITE.chat}", "api_base": SITE.url, "api_version": "2024-10-21"},
        "azure_ai": {
            "model": f"azure_ai/{SITE.chat}",
            "api_base": f"{SITE.url}/models",
            "api_version": "2024-05-01-preview",
            "allowed_openai_params": ["tool_choice"],  # of a model that it does not know it thinks it has none
        },
    }[kind]

    def ask(said: Any, **more: Any) -> Any:
        return sdk.completion(messages=said, api_key=KEY, **(at | SETTINGS | more))

    def turns() -> None:
        first = ask(ASK)
        said = first.choices[0].message
        assert said.content and first.usage.completion_tokens > 0
        again = ask(
            [*ASK, said.model_dump(), {"role": "user", "content": AGAIN}], n=1, user="me"
        )  # extras, below /models
        assert again.choices[0].message.content

    def stream() -> None:
        pieces = [chunk.choices[0].delta.content or "" for chunk in ask(ASK, stream=True) if chunk.choices]
        assert "".join(pieces) == ask(ASK).choices[0].message.content

    def tools() -> None:
        schema = {"type": "object", "properties": {"urgent": {"type": "boolean"}}, "required": ["urgent"]}
        tool = {"type": "function", "function": {"name": TOOL, "description": "Refer.", "parameters": schema}}
        choice = {"type": "function", "function": {"name": TOOL}}
        answer = ask(ASK, tools=[tool], tool_choice=choice)
        message = answer.choices[0].message
        [call] = message.tool_calls
        assert call.function.name == TOOL
        result = {"role": "tool", "tool_call_id": call.id, "content": "Done."}
        assert ask([*ASK, message.model_dump(exclude_none=True), result], max_tokens=5).choices

    def schema() -> None:
        answer = ask(ASK, response_format=Allergy)
        assert Allergy.model_validate_json(answer.choices[0].message.content)

    return {"turns": turns, "stream": stream, "tools": tools, "schema": schema}


CLIENTS: dict[str, Callable[[], dict[str, Callable[[], None]]]] = {
    "Agents on Chat Completions": lambda: agents("chat"),
    "Agents on Responses": lambda: agents("responses"),
    "Pydantic AI on Chat Completions": lambda: pydantic_ai("chat"),
    "Pydantic AI on Responses": lambda: pydantic_ai("responses"),
    "Pydantic AI at Azure": lambda: pydantic_ai("azure"),
    "Haystack": lambda: haystack("openai"),
    "Haystack at Azure": lambda: haystack("azure"),
    "LiteLLM openai": lambda: litellm("openai"),
    "LiteLLM azure": lambda: litellm("azure"),
    "LiteLLM azure_ai": lambda: litellm("azure_ai"),
}

if __name__ == "__main__":
    perform(
        (f"frameworks {name} {scenario}", act) for name in sys.argv[1:] for scenario, act in CLIENTS[name]().items()
    )
