"""`clinserve chat`: a conversation with a running server in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.markup import escape

from serving.commands.kept import kept_key

if TYPE_CHECKING:
    from openai import OpenAI


class CannotChat(Exception):
    """One line that says what is wrong and what to do."""


def chat(
    message: str | None, *, url: str, key: str | None, model: str | None, system: str | None, note: Path | None
) -> None:
    """Ask `message` and stop, or converse until end of file. Raises CannotChat."""
    # Imported here: the package takes a second, and no other verb needs it.
    import openai

    console = Console(highlight=False, soft_wrap=True)
    client = openai.OpenAI(base_url=f"{url.rstrip('/')}/v1", api_key=key or _kept_key(url), max_retries=1)
    try:
        cards = client.models.list().data
        card = next((c for c in cards if c.id == model), None) if model else cards[0]
        if card is None:
            raise CannotChat(f"there is no deployment '{model}'; there are {', '.join(c.id for c in cards)}")
        notice = getattr(card, "description", None)
        console.print(f"[dim]{card.id} at {url}[/]" + (f"  [yellow]{escape(notice)}[/]" if notice else ""))
        messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        about = f"{_text_of(note)}\n\n" if note else ""
        if message is not None:
            _turn(client, card.id, messages, about + message)
            return
        console.print("[dim]An empty line or Ctrl-D ends the conversation.[/]")
        while text := _asked():
            _turn(client, card.id, messages, about + text)
            about = ""
    except openai.APIConnectionError:
        raise CannotChat(f"no server answers at {url}; start one with 'make serve'") from None
    except openai.APIError as error:
        raise CannotChat(error.message) from None


def _turn(client: OpenAI, model: str, messages: list[dict[str, Any]], text: str) -> None:
    messages.append({"role": "user", "content": text})
    answer = ""
    stream: Any = client.chat.completions.create(model=model, messages=cast("Any", messages), stream=True)
    for chunk in stream:
        piece = (chunk.choices[0].delta.content if chunk.choices else None) or ""
        answer += piece
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    messages.append({"role": "assistant", "content": answer})


def _asked() -> str:
    try:
        return input("> ").strip()
    except (EOFError, KeyboardInterrupt):
        return ""


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise CannotChat(f"{file}: {error.strerror}") from None


def _kept_key(url: str) -> str:
    if (key := kept_key(url, "demo.key")) is None:
        raise CannotChat("no key: pass --key, set CLINSERVE_API_KEY, or run 'make serve', which makes one")
    return key
