"""`clinserve chat`: a conversation with a running server in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.markup import escape

from serving.commands.remote import CannotAsk, asking

if TYPE_CHECKING:
    from openai import OpenAI


def chat(
    message: str | None, *, url: str, key: str | None, model: str | None, system: str | None, note: Path | None
) -> None:
    """Ask `message` and stop, or converse until end of file. Raises CannotAsk."""
    console = Console(highlight=False, soft_wrap=True)
    with asking(url, key) as client:
        cards = client.models.list().data
        card = next((c for c in cards if c.id == model), None) if model else cards[0]
        if card is None:
            raise CannotAsk(f"there is no deployment '{model}'; there are {', '.join(c.id for c in cards)}")
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
        raise CannotAsk(f"{file}: {error.strerror}") from None
